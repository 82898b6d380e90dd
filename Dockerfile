# The server, with the model's files in a volume: docker build -t cachalot . && docker compose up
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin cachalot

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl libstdc++6 \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home --uid 1000 cachalot \
    && mkdir /models && chown cachalot /models
COPY --from=build /src/target/release/cachalot /usr/local/bin/cachalot
USER cachalot
ENV CACHALOT_MODELS=/models
VOLUME /models
EXPOSE 8080
# A large model takes a while until it answers; until then /health says so with status 503.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30m CMD curl --fail --silent http://127.0.0.1:8080/health
# Others reach it, so that it wants a key: CACHALOT_API_KEY.
ENTRYPOINT ["cachalot"]
CMD ["serve", "--host", "0.0.0.0", "--allow-host", "cachalot"]

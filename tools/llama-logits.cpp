// Evaluates token ids as one batch and writes the logits of all positions, raw little-endian F32 [n, n_vocab].
//
// usage: llama-logits MODEL TOKENS.json OUT.f32 [--fa 0|1] [--kv f32|f16] [--threads N]
//
// TOKENS.json is one flat array of ids. Defaults: --fa 0, --kv f16, --threads 2.

#include <llama.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

[[noreturn]] static void fail(const std::string & what) {
    fprintf(stderr, "llama-logits: %s\n", what.c_str());
    exit(1);
}

static std::vector<llama_token> read_ids(const char * path) {
    std::ifstream file(path);
    if (!file) fail(std::string("cannot read ") + path);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::vector<llama_token> ids;
    for (size_t i = 0; i < text.size();) {
        if (!isdigit(static_cast<unsigned char>(text[i]))) { i++; continue; }
        size_t len = 0;
        ids.push_back(std::stoi(text.substr(i), &len));
        i += len;
    }
    if (ids.empty()) fail(std::string("no token ids in ") + path);
    return ids;
}

int main(int argc, char ** argv) {
    if (argc < 4 || argc % 2 != 0) fail("usage: llama-logits MODEL TOKENS.json OUT.f32 [--fa 0|1] [--kv f32|f16] [--threads N]");
    bool flash = false;
    ggml_type kv = GGML_TYPE_F16;
    int threads = 2;
    for (int i = 4; i < argc; i += 2) {
        const std::string flag = argv[i], value = argv[i + 1];
        if (flag == "--fa" && (value == "0" || value == "1")) flash = value == "1";
        else if (flag == "--kv" && (value == "f32" || value == "f16")) kv = value == "f32" ? GGML_TYPE_F32 : GGML_TYPE_F16;
        else if (flag == "--threads") threads = std::stoi(value);
        else fail("unknown option " + flag + " " + value);
    }
    std::vector<llama_token> ids = read_ids(argv[2]);

    // Warnings and errors only.
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_WARN) fputs(text, stderr);
    }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) fail(std::string("cannot load ") + argv[1]);

    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = ids.size();
    params.n_threads = params.n_threads_batch = threads;
    params.type_k = params.type_v = kv;
    params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    llama_context * ctx = llama_init_from_model(model, params);
    if (!ctx) fail("cannot make a context");

    llama_batch batch = llama_batch_init(ids.size(), 0, 1);
    batch.n_tokens = ids.size();
    for (size_t i = 0; i < ids.size(); i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = true;
    }
    if (llama_decode(ctx, batch) != 0) fail("llama_decode failed");

    const size_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    FILE * out = fopen(argv[3], "wb");
    if (!out) fail(std::string("cannot write ") + argv[3]);
    for (size_t i = 0; i < ids.size(); i++) {
        if (fwrite(llama_get_logits_ith(ctx, i), sizeof(float), n_vocab, out) != n_vocab) fail("short write");
    }
    if (fclose(out) != 0) fail("short write");
    llama_batch_free(batch);
    llama_free(ctx);
    llama_model_free(model);
}

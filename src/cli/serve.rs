//! `cachalot serve`: a model that answers over HTTP.

use super::interrupt;
use super::model::{ModelOptions, remarks};
use super::output::{message, remark};
use super::sampling::SamplingOptions;
use super::size::{Bound, at_least_one, bound, bytes};
use crate::asking;
use crate::catalog;
use crate::engine::{Engine, Hosting};
use crate::exit::{BadInput, Exit};
use crate::server::{self, Key, Served, Server};
use crate::text::Escaped;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Answer over HTTP
///
/// Speaks the protocols of OpenAI (chat completions, completions, responses), of Anthropic (messages) and of Ollama,
/// and has a page for browsers at /. It listens at once, and GET /health says when the model is there.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("verbose", |arg| arg.help("Say what of the model goes where, and which requests come")))]
#[command(mut_arg("context", |arg| arg.help("Tokens of context, of all requests together; 0 is the model's own, however long [default: the model's own, at most 32768]")))]
pub(super) struct Args {
    /// A .gguf file, any shard of a split model, a folder that holds one model, or `demo` [default: what `cachalot use`
    /// has set, or the demo model]
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    named: Option<PathBuf>,
    /// The same
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// The address to listen on; one that others reach needs a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// The port to listen on; 0 is a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// The name that the model has for clients; may be repeated [default: its name in the catalogue, or its file's]
    #[arg(long = "served-model-name", visible_alias = "alias", value_name = "NAME")]
    names: Vec<String>,
    /// A key that clients must send; may be repeated. Others on this machine may see it in the list of processes, but not
    /// one that CACHALOT_API_KEY has
    #[arg(long = "api-key", value_name = "KEY")]
    keys: Vec<String>,
    /// A file of such keys, one a line; lines that begin with # are comments
    #[arg(long = "api-key-file", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A name by which clients may call this server, such as that of a proxy; may be repeated
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// An origin whose pages may use this server, or * for all; may be repeated
    #[arg(long = "cors", value_name = "ORIGIN", hide_short_help = true)]
    origins: Vec<String>,
    /// A certificate in PEM, for https
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Requests to compute at the same time
    #[arg(long, visible_alias = "max-num-seqs", value_name = "N", default_value_t = 8, value_parser = at_least_one::<usize>)]
    parallel: usize,
    /// Requests that may wait beside these; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 64, hide_short_help = true)]
    queue: usize,
    /// Bytes of a request at most
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = bytes, hide_short_help = true)]
    max_body: u64,
    /// Seconds that a client may take for the headers of a request, for its body, and to read what is sent to it
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = at_least_one::<u64>, hide_short_help = true)]
    timeout: u64,
    /// Seconds that requests under way have once the server is told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 30, hide_short_help = true)]
    grace: u64,
    /// How clients mean temperatures: as DeepSeek's API does, where 1 is the model's 0.3, or as they are
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_short_help = true)]
    temperature_map: TemperatureMap,
    /// Tokens of an answer at most; -1 is as many as the context holds, as without it
    #[arg(short, long, value_name = "N", value_parser = bound, allow_negative_numbers = true)]
    n_predict: Option<Bound>,
    /// Do not let `run`, `fim` and `chat` of this user have their answers here
    #[arg(long, hide_short_help = true)]
    no_attach: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    options: ModelOptions,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum TemperatureMap {
    /// As DeepSeek's API for models of whom the catalogue says so
    #[default]
    Auto,
    On,
    Off,
}

const EXAMPLES: &str = "\
Examples:
  cachalot serve
  cachalot serve deepseek-v3-0324:Q2_K_XL --context 32768 --parallel 4
  cachalot serve demo --host 0.0.0.0 --api-key-file keys.txt --allow-host chat.example.org
  cachalot serve --port 8443 --tls-cert cert.pem --tls-key key.pem";

const KEY_VARIABLE: &str = "CACHALOT_API_KEY";

const TAKEN: &str = "another server of this user has the same model: `run`, `fim` and `chat` have their answers there, \
     and here once it ends";

const MAX_CONNECTIONS: usize = 8192;

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let say = |text: &str| {
        if !args.quiet {
            message(text);
        }
    };
    let server = Server::start(options(args)?)?;
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    say(&format!("listening on {scheme}://{}; loading the model", server.address()));
    let model = args.named.as_deref().or(args.model.as_deref());
    let handle = server.handle();
    let engine = args.options.open_parallel(model, args.parallel, &|so_far| handle.loading(so_far))?;
    if !args.quiet {
        args.options.remark(&engine);
        remarks(&engine);
    }
    let engine = Arc::new(engine);
    let hosting = (!args.no_attach).then(|| host(args, &engine)).flatten().map(Arc::new);
    let served = served(args, model, engine)?;
    let ready = format!("{} answers", Escaped(served.names.first().map_or("the model", String::as_str)));
    // From here on a signal ends it in good order; another one ends it at once.
    let (stopper, host) = (handle.clone(), hosting.clone());
    let _guard = interrupt::guard(move || {
        stopper.stop();
        if let Some(host) = &host {
            host.close();
        }
    });
    handle.ready(served);
    say(&ready);
    server.run();
    if let Some(hosting) = &hosting {
        hosting.finish(Duration::from_secs(args.grace));
    }
    say("stopped");
    // The engine may be in a step still that nobody waits for.
    interrupt::end_with(Exit::Done)
}

fn options(args: &Args) -> anyhow::Result<server::Options> {
    let mut keys = if args.keys.is_empty() { key_of_environment()? } else { args.keys.clone() };
    if let Some(path) = &args.key_file {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| BadInput::Unreadable { name: name.clone(), error })?;
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        if lines.is_empty() {
            return Err(BadInput::Faulty { name, fault: "there is no key in it".to_owned() }.into());
        }
        keys.extend(lines.into_iter().map(str::to_owned));
    }
    if keys.iter().any(String::is_empty) {
        return Err(BadInput::Argument("--api-key: a key is empty".to_owned()).into());
    }
    if let Some(name) = args.allowed_hosts.iter().find(|name| name.contains(['/', ' ']) || name.is_empty()) {
        let fault =
            format!("--allow-host: '{name}' is no name: give it without scheme and path, as in chat.example.org");
        return Err(BadInput::Argument(fault).into());
    }
    Ok(server::Options {
        host: args.host.clone(),
        port: args.port,
        keys: keys.iter().map(|key| Key::new(key)).collect(),
        allowed_hosts: args.allowed_hosts.clone(),
        origins: args.origins.clone(),
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        n_parallel: args.parallel,
        n_queue: args.queue,
        max_body: usize::try_from(args.max_body).unwrap_or(usize::MAX),
        timeout: Duration::from_secs(args.timeout),
        max_connections: MAX_CONNECTIONS,
        log: log(args),
        grace: Duration::from_secs(args.grace),
    })
}

/// The key that goes without saying. An empty one is a mistake that would leave the server open.
fn key_of_environment() -> Result<Vec<String>, BadInput> {
    let Some(key) = std::env::var_os(KEY_VARIABLE) else { return Ok(Vec::new()) };
    let fault = |fault: &str| BadInput::Argument(format!("{KEY_VARIABLE}: {fault}"));
    match key.into_string() {
        Ok(key) if key.trim().is_empty() => Err(fault("the key is empty: unset the variable, or give it a key")),
        // Clients send it in a header, which holds nothing else.
        Ok(key) if !key.trim().bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(fault("a key is of ASCII letters, digits and signs, without spaces, since others cannot be sent"))
        }
        Ok(key) => Ok(vec![key.trim().to_owned()]),
        Err(_) => Err(fault("not UTF-8")),
    }
}

/// Lets `run`, `fim` and `chat` of this user have their answers here. Without that they open the model themselves.
fn host(args: &Args, engine: &Arc<Engine>) -> Option<Hosting> {
    let hosting = Hosting::start(engine, log(args));
    match &hosting {
        Err(error) => remark(&format!("`run`, `fim` and `chat` will not have their answers here: {error}")),
        Ok(hosting) if hosting.is_waiting() => remark(TAKEN),
        Ok(_) => {}
    }
    hosting.ok()
}

fn log(args: &Args) -> Option<fn(&str)> {
    args.options.is_verbose().then_some(message as fn(&str))
}

fn served(args: &Args, model: Option<&Path>, engine: Arc<Engine>) -> anyhow::Result<Served> {
    let sampling = args.sampling.params(&engine)?;
    let info = engine.info();
    let typed =
        model.map_or_else(|| catalog::default_name().map(str::to_owned), |path| path.to_str().map(str::to_owned));
    let mut aliases = typed.as_deref().map(catalog::names_of).unwrap_or_default();
    let stem = info.first_file.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str()).map(str::to_owned);
    let is_known = !aliases.is_empty();
    aliases.extend(info.name.clone());
    aliases.extend(stem.clone());
    // A path is no name to be told to others, if there is another one.
    let own = if is_known { typed } else { stem.or_else(|| info.name.clone()) };
    let names =
        if args.names.is_empty() { vec![own.unwrap_or_else(|| "model".to_owned())] } else { args.names.clone() };
    aliases.retain(|alias| !names.contains(alias));
    let mut seen = std::collections::HashSet::new();
    aliases.retain(|alias| seen.insert(alias.to_lowercase()));
    let family = asking::family(&engine);
    let maps_temperature = match args.temperature_map {
        TemperatureMap::On => true,
        TemperatureMap::Off => false,
        TemperatureMap::Auto => catalog::sampling_for(info.name.as_deref(), family.name()).temperature_map,
    };
    Ok(Served {
        engine,
        names,
        aliases,
        sampling,
        max_tokens: args.n_predict.and_then(|bound| bound.0),
        maps_temperature,
    })
}

//! A hub on loopback that keeps to Hugging Face's ways, or fails as it is told to: the API and the redirects come from
//! one address, the data from another, as from a CDN.

use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub const REPO: &str = "tester/Tiny-GGUF";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const TOKEN: &str = "hf_secret";

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that compress to nothing and look like nothing.
pub fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// How the hub behaves; as it should unless told otherwise.
#[derive(Default)]
pub struct Ways {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Files on a page of a listing.
    pub page: Option<usize>,
    /// Only with the token.
    pub is_gated: bool,
    /// Answers to the next requests for data, or for anything where `refuses_all`: status and a header.
    pub refusals: Vec<(u16, &'static str)>,
    pub refuses_all: bool,
    /// Connections end behind so many bytes of data.
    pub cut_after: Option<usize>,
    /// Bytes of data in a millisecond on each connection.
    pub pace: Option<usize>,
    pub has_no_ranges: bool,
    /// What the listing says of sizes is that much too large.
    pub lies_by: u64,
    /// Sizes that the listing says of files of which only the beginning is kept here.
    pub sizes: BTreeMap<String, u64>,
    /// Data is not what the listing says, at this byte.
    pub spoilt: Option<usize>,
    /// The ETag of the data changes behind so many requests.
    pub changes_after: Option<usize>,
    /// Files are where they were asked for, again and again.
    pub redirects_to_itself: bool,
    /// An API that says nothing of a file where it redirects.
    pub is_terse: bool,
    pub requests: Vec<Request>,
}

#[derive(Debug, Clone)]
pub struct Request {
    /// Not the API's address, but that of the data.
    pub is_data: bool,
    pub path: String,
    pub token: Option<String>,
    pub range: Option<(usize, usize)>,
}

pub struct Hub {
    pub url: String,
    ways: Arc<Mutex<Ways>>,
}

impl Hub {
    /// Serves until the process ends.
    pub fn start(files: &[(&str, Vec<u8>)]) -> Hub {
        let (api, data) = (listener(), listener());
        let url = format!("http://{}", api.local_addr().unwrap());
        let data_url = format!("http://{}", data.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let ways = Arc::new(Mutex::new(Ways { files, ..Ways::default() }));
        for (listener, is_data) in [(api, false), (data, true)] {
            let (ways, url, data_url) = (ways.clone(), url.clone(), data_url.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let server = Server { ways: ways.clone(), url: url.clone(), data_url: data_url.clone(), is_data };
                    std::thread::spawn(move || server.serve(stream));
                }
            });
        }
        Hub { url, ways }
    }

    pub fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap()
    }

    /// What was asked since the last time.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.ways().requests)
    }

    /// The program, with this hub, at home in `home`, and with nothing else of this environment.
    pub fn cachalot(&self, home: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cachalot"));
        command.args(args).env_clear().env("HOME", home).env("HF_ENDPOINT", &self.url);
        command
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

struct Server {
    ways: Arc<Mutex<Ways>>,
    url: String,
    data_url: String,
    is_data: bool,
}

struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    fn json(value: &serde_json::Value) -> Answer {
        Answer { body: value.to_string().into_bytes(), ..Answer::new(200) }
    }

    fn with(mut self, header: impl Into<String>) -> Answer {
        self.headers.push(header.into());
        self
    }
}

impl Server {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = self.read(&mut reader) {
            let (answer, pace, cut) = {
                let mut ways = self.ways.lock().unwrap();
                ways.requests.push(request.clone());
                (self.answer(&mut ways, &request), ways.pace, ways.cut_after)
            };
            if write(&stream, &answer, pace, cut.filter(|_| self.is_data)).is_err() {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    fn read(&self, reader: &mut BufReader<TcpStream>) -> Option<Request> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let path = lines.first()?.split(' ').nth(1)?.to_owned();
        let header = |name: &str| {
            lines.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
        };
        let token = header("authorization").map(|(_, value)| value.trim_start_matches("Bearer ").to_owned());
        let range = header("range").map(|(_, value)| {
            let (from, to) = value.trim_start_matches("bytes=").split_once('-').unwrap();
            (from.parse().unwrap(), to.parse::<usize>().unwrap() + 1)
        });
        Some(Request { is_data: self.is_data, path, token, range })
    }

    fn answer(&self, ways: &mut Ways, request: &Request) -> Answer {
        if (self.is_data || ways.refuses_all) && !ways.refusals.is_empty() {
            let (status, header) = ways.refusals.remove(0);
            return Answer::new(status).with(header);
        }
        if self.is_data {
            return data(ways, request);
        }
        if ways.is_gated && request.token.as_deref() != Some(TOKEN) {
            let status = if request.token.is_some() { 403 } else { 401 };
            return Answer::new(status).with("x-error-code: GatedRepo");
        }
        let path = request.path.split('?').next().unwrap();
        if path.starts_with(&format!("/api/models/{REPO}/revision/")) {
            return match path.rsplit('/').next() {
                Some("main" | COMMIT) => Answer::json(&json!({ "id": REPO, "sha": COMMIT })),
                _ => Answer::new(404).with("x-error-code: RevisionNotFound"),
            };
        }
        if path == format!("/api/models/{REPO}/tree/{COMMIT}") {
            return self.listing(ways, &request.path);
        }
        match path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/")) {
            Some(_) if ways.redirects_to_itself => Answer::new(302).with(format!("location: {path}")),
            Some(file) => match ways.files.get(file) {
                Some(bytes) => {
                    let answer = Answer::new(302).with(format!("location: {}/blobs/{file}?signature=x", self.data_url));
                    let answer = answer.with(format!("x-repo-commit: {COMMIT}"));
                    match ways.is_terse {
                        true => answer,
                        false => answer.with(format!("x-linked-etag: \"{}\"", sha256(bytes))),
                    }
                }
                None => Answer::new(404).with("x-error-code: EntryNotFound"),
            },
            None => Answer::new(404).with("x-error-code: RepoNotFound"),
        }
    }

    fn listing(&self, ways: &Ways, path: &str) -> Answer {
        let at: usize = path.split("cursor=").nth(1).map_or(0, |cursor| cursor.parse().unwrap());
        let page = ways.page.unwrap_or(usize::MAX);
        let folder = json!({ "type": "directory", "path": "UD-Q2_K_XL", "oid": "0", "size": 0 });
        let files = ways.files.iter().skip(at).take(page).map(|(path, bytes)| {
            let size = ways.sizes.get(path).copied().unwrap_or(bytes.len() as u64 + ways.lies_by);
            json!({
                "type": "file", "path": path, "size": size, "oid": "pointer",
                "lfs": { "oid": sha256(bytes), "size": size, "pointerSize": 135 },
            })
        });
        let items: Vec<_> = std::iter::once(folder).chain(files).collect();
        let answer = Answer::json(&serde_json::Value::Array(items));
        match at.saturating_add(page) < ways.files.len() {
            false => answer,
            true => {
                let next = format!("{}/api/models/{REPO}/tree/{COMMIT}?recursive=1&cursor={}", self.url, at + page);
                answer.with(format!("link: <{next}>; rel=\"next\""))
            }
        }
    }
}

fn data(ways: &mut Ways, request: &Request) -> Answer {
    let file = request.path.split('?').next().unwrap().trim_start_matches("/blobs/");
    let Some(bytes) = ways.files.get(file) else { return Answer::new(404) };
    let mut bytes = bytes.clone();
    if let Some(byte) = ways.spoilt.and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1;
    }
    let n_before = ways.requests.iter().filter(|request| request.is_data).count();
    let generation = if ways.changes_after.is_some_and(|after| n_before > after) { "new" } else { "old" };
    let etag = format!("etag: \"{generation}\"");
    match request.range.filter(|_| !ways.has_no_ranges) {
        None => Answer { body: bytes, ..Answer::new(200).with(etag) },
        Some((from, to)) => {
            let to = to.min(bytes.len());
            let range = format!("content-range: bytes {from}-{}/{}", to - 1, bytes.len());
            Answer { body: bytes[from..to].to_vec(), ..Answer::new(206).with(etag).with(range) }
        }
    }
}

fn write(mut stream: &TcpStream, answer: &Answer, pace: Option<usize>, cut: Option<usize>) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Said\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
    for header in &answer.headers {
        head.push_str(&format!("{header}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    let body = &answer.body[..cut.unwrap_or(usize::MAX).min(answer.body.len())];
    match pace {
        None => stream.write_all(body)?,
        Some(pace) => {
            for piece in body.chunks(pace) {
                stream.write_all(piece)?;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    match body.len() == answer.body.len() {
        true => Ok(()),
        false => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}

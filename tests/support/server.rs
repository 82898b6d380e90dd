//! A server of the program under test, and what its clients say to it.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Listens on a port of its own; dropped, it is killed.
pub struct Server {
    pub child: Child,
    pub port: u16,
}

/// A response, whole.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The values of server-sent events; `[DONE]` is none.
    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))).collect()
    }
}

impl Server {
    /// With the demo model, ready.
    pub fn start(args: &[&str]) -> Server {
        Server::of("demo", args)
    }

    pub fn of(model: &str, args: &[&str]) -> Server {
        Server::with(super::program(), model, args)
    }

    pub fn with(mut command: Command, model: &str, args: &[&str]) -> Server {
        command
            .args(["serve", model, "--port", "0", "-t", "1"])
            .args(args)
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        let mut server = Server { child: command.spawn().unwrap(), port: 0 };
        let mut lines = BufReader::new(server.child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        for line in &mut lines {
            let line = line.unwrap();
            if let Some((_, rest)) = line.split_once("listening on http") {
                let address = rest.split(';').next().unwrap();
                server.port = address.rsplit(':').next().unwrap().parse().unwrap();
            }
            if line.ends_with(" answers") {
                // What it says later is of no interest, but it must not wait for a reader.
                std::thread::spawn(move || lines.for_each(drop));
                return server;
            }
            said += &line;
        }
        panic!("the server ended: {said}");
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    /// Sends bytes and reads until the server closes.
    pub fn raw(&self, request: &[u8]) -> Response {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        read(&mut stream)
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.raw(&request(method, path, headers, body))
    }

    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// A figure of `/metrics`.
    pub fn figure(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }

    /// Waits until a figure is this.
    pub fn until(&self, name: &str, value: f64) {
        let is = || self.figure(name) == value;
        let waited = (0..600).any(|_| {
            is() || {
                std::thread::sleep(Duration::from_millis(50));
                false
            }
        });
        assert!(waited, "{name} is {}, not {value}", self.figure(name));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head += "host: localhost\r\n";
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    [head.as_bytes(), b"\r\n", body].concat()
}

/// Reads a response whose connection closes behind it.
pub fn read(stream: &mut impl Read) -> Response {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_owned(),
    };
    Response { status, head: head.to_owned(), body }
}

fn unchunked(mut body: &str) -> String {
    let mut text = Vec::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 || rest.len() < size {
            break;
        }
        text.extend_from_slice(&rest.as_bytes()[..size]);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    String::from_utf8_lossy(&text).into_owned()
}

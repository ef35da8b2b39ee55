//! HTTP as it is on the wire: a client, and a server that answers with anything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::child::TIMEOUT;

/// A response: its status and its body.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Returns the address in the URL of a gateway or server.
pub fn address(url: &Value) -> SocketAddr {
    url.as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
}

fn write(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let host = if headers.contains("Host:") { String::new() } else { format!("Host: {addr}\r\n") };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses the request need not read it.
    let _ = stream.write_all(body.as_bytes());
    stream
}

/// Sends a request and returns the response.
pub fn send(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let mut text = String::new();
    write(addr, method, path, headers, body).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, body: body.to_owned() }
}

/// A call as a client of A2A sends it.
pub fn call(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": "mine", "method": method, "params": params}).to_string()
}

/// Makes a call and returns its answer.
pub fn post(addr: SocketAddr, agent: &str, call: &str) -> Value {
    send(addr, "POST", &format!("/agents/{agent}"), "A2A-Version: 1.0\r\n", call).json()
}

/// Begins a call whose answer is a stream, and returns it after its first event.
pub fn stream(addr: SocketAddr, agent: &str, call: &str) -> TcpStream {
    let stream = write(addr, "POST", &format!("/agents/{agent}"), "A2A-Version: 1.0\r\n", call);
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("data:")).unwrap().unwrap();
    stream
}

/// A request that a server got: its path and its head.
#[derive(Debug)]
pub struct Got {
    pub path: String,
    pub head: String,
}

/// An A2A server that answers as the test says.
pub struct Server {
    pub addr: SocketAddr,
    requests: Receiver<Got>,
}

impl Server {
    /// `answer` gets the path of each request, and the connection to answer on.
    pub fn new(answer: impl Fn(&str, TcpStream) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (sender, requests) = channel();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(got) = read(&stream) else { continue };
                let path = got.path.clone();
                if sender.send(got).is_err() {
                    return;
                }
                answer(&path, stream);
            }
        });
        Server { addr, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Waits for the next request for a path.
    pub fn request(&self, path: &str) -> Got {
        loop {
            let got = self.requests.recv_timeout(TIMEOUT).expect("a request");
            if got.path == path {
                return got;
            }
        }
    }

    /// Returns the paths of the requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.requests.try_iter().map(|got| got.path).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    Some(Got { path, head })
}

/// Writes a response and closes the connection.
pub fn respond(mut stream: TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n");
    // A gateway that refuses the response need not read it.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

pub fn respond_json(stream: TcpStream, body: &Value) {
    respond(stream, "200 OK", "Content-Type: application/json\r\n", &body.to_string());
}

/// Returns a card whose interface has this URL.
pub fn card(url: &str) -> Value {
    json!({
        "name": "fake",
        "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
        "url": "http://older.example/",
        "securitySchemes": {"key": {}},
    })
}

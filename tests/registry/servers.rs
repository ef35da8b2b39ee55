//! RPC servers that misbehave.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::anvil::post;

/// What a server does with a request. Gets the method and the request, and returns the raw bytes of an
/// HTTP response, or nothing to keep the connection open in silence.
type Behaviour = dyn Fn(&str, &Value) -> Option<Vec<u8>> + Send + Sync;

/// A server on a port of its own. Its threads end with the process of the test.
pub struct Server {
    pub port: u16,
    requests: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(behaviour: impl Fn(&str, &Value) -> Option<Vec<u8>> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behaviour, counter) = (Arc::clone(&behaviour), Arc::clone(&counter));
                std::thread::spawn(move || serve(stream, &*behaviour, &counter));
            }
        });
        Server { port, requests }
    }

    /// A server that passes each request on to an EVM node, and lets `change` change the answer.
    pub fn proxy(to: u16, change: impl Fn(&str, &mut Value) + Send + Sync + 'static) -> Server {
        Server::start(move |method, request| {
            let mut answer = post(to, request)?;
            change(method, &mut answer);
            Some(http("200 OK", &answer.to_string()))
        })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the number of requests that arrived.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Returns an HTTP response.
pub fn http(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Returns the answer to a request with this result.
pub fn result(request: &Value, result: &Value) -> Vec<u8> {
    http("200 OK", &json!({"jsonrpc":"2.0","id":request["id"],"result":result}).to_string())
}

fn serve(mut stream: TcpStream, behaviour: &Behaviour, requests: &AtomicUsize) {
    while let Some(request) = read_request(&mut stream) {
        requests.fetch_add(1, Ordering::Relaxed);
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        let Some(answer) = behaviour(&method, &request) else {
            // Silent until the other side gives up.
            let _ = stream.read(&mut [0; 1]);
            return;
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Reads one request with a `content-length`.
fn read_request(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let number = stream.read(&mut buffer).ok().filter(|number| *number > 0)?;
        bytes.extend_from_slice(&buffer[..number]);
        let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
        let body = &bytes[head + 4..];
        if body.len() >= length {
            return serde_json::from_slice(&body[..length]).ok();
        }
    }
}

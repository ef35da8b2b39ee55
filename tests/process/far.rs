//! A recipient behind a link with high latency: all messages arrive.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};

/// Delay in each direction; a round trip takes twice as long.
const DELAY: Duration = Duration::from_millis(100);
/// Number of messages, 10 MB in all; `MAILS` overrides it.
const MESSAGES: u64 = 640;
const MESSAGE_BYTES: usize = 16 << 10;
/// Most messages in flight: more than the 1 MiB in flight on the wire, and less than the 2 MB of one
/// recipient in the outbox.
const MAX_IN_FLIGHT: u64 = 96;

/// Starts a proxy to `target` that delays all bytes, and returns its port.
fn delaying_proxy(target: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(("127.0.0.1", target)).unwrap();
            forward_delayed(near.try_clone().unwrap(), far.try_clone().unwrap());
            forward_delayed(far, near);
        }
    });
    port
}

fn forward_delayed(mut from: TcpStream, mut to: TcpStream) {
    from.set_nodelay(true).unwrap();
    to.set_nodelay(true).unwrap();
    let (sender, receiver): (_, Receiver<(Instant, Vec<u8>)>) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(number @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + DELAY, buffer[..number].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// `cargo test --release --test process far:: -- --nocapture` prints the throughput.
#[test]
fn messages_over_a_link_with_latency_arrive_complete_and_in_order() {
    let (far, ready) = Child::join(0x71, 0, &["--role", "bootstrap"], &[]);
    let address = tcp_address(&ready);
    let port = address.split('/').nth(4).unwrap().to_owned();
    let proxied = address.replace(&port, &delaying_proxy(port.parse().unwrap()).to_string());
    let (mut near, _) = Child::join(0x72, 0, &[], &[proxied]);
    near.expect("the far node", |event| event["type"] == "peer_discovered");
    let count = std::env::var("MAILS").map_or(MESSAGES, |text| text.parse().unwrap());
    let to = ready["address"].clone();
    let mut stdin = near.take_stdin();
    let began = Instant::now();
    let text = "x".repeat(MESSAGE_BYTES);
    let expect_delivery = || {
        let delivery = near.expect("a delivery", |event: &Value| event["type"] == "delivery");
        let (state, attempts) = (&delivery["state"], &delivery["attempts"]);
        assert_eq!((state, attempts), (&json!("delivered"), &json!(1)), "{delivery}");
    };
    for number in 0..count {
        // No `send` waits for capacity, which a slow node might refuse.
        if number >= MAX_IN_FLIGHT {
            expect_delivery();
        }
        let line = json!({"type":"send","peerId":to,"data":[number, text],"id":number});
        writeln!(stdin, "{line}").unwrap();
    }
    (0..count.min(MAX_IN_FLIGHT)).for_each(|_| expect_delivery());
    let elapsed = began.elapsed();
    for number in 0..count {
        let message = far.expect("mail", |event: &Value| event["type"] == "message");
        assert_eq!(message["data"][0], number);
        assert_eq!(message["route"], "direct");
    }
    let megabytes = count as f64 * MESSAGE_BYTES as f64 / 1e6;
    println!(
        "{megabytes:.1} MB in {elapsed:?}: {:.2} MB/s over a round trip of {:?}",
        megabytes / elapsed.as_secs_f64(),
        2 * DELAY
    );
    drop(stdin);
}

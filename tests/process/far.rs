//! A recipient behind a link with high latency: all messages arrive.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};

/// How long each byte is on its way, each way. A round trip takes twice as long.
const DELAY: Duration = Duration::from_millis(100);
/// What is sent, unless `MAILS` says otherwise: 10 MB.
const MAILS: u64 = 640;
const MAIL_BYTES: usize = 16 << 10;
/// Mails on their way at a time: more than the 1 MiB that may be on the wire, and less than the 2
/// MB that one recipient may have in the outbox.
const ON_THE_WAY: u64 = 96;

/// Carries bytes between whoever connects and `target`, late. Ends with the connection.
fn delaying_proxy(target: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(("127.0.0.1", target)).unwrap();
            carry(near.try_clone().unwrap(), far.try_clone().unwrap());
            carry(far, near);
        }
    });
    port
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
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

/// `cargo test --release --test process far:: -- --nocapture` says how fast.
#[test]
fn mail_over_a_link_with_a_delay_arrives_whole_in_order_and_at_once_as_much_as_the_window_holds() {
    let (far, ready) = Child::join(0x71, 0, &["--role", "bootstrap"], &[]);
    let address = tcp_address(&ready);
    let port = address.split('/').nth(4).unwrap().to_owned();
    let through = address.replace(&port, &delaying_proxy(port.parse().unwrap()).to_string());
    let (mut near, _) = Child::join(0x72, 0, &[], &[through]);
    near.expect("the far node", |event| event["type"] == "peer_discovered");
    let mails = std::env::var("MAILS").map_or(MAILS, |text| text.parse().unwrap());
    let to = ready["address"].clone();
    let mut stdin = near.take_stdin();
    let began = Instant::now();
    let text = "x".repeat(MAIL_BYTES);
    let told = || {
        let told = near.expect("how it ended", |event: &Value| event["type"] == "delivery");
        assert_eq!((&told["state"], &told["attempts"]), (&json!("delivered"), &json!(1)), "{told}");
    };
    for number in 0..mails {
        // No `send` has to wait for room, which a node that is slow might refuse.
        if number >= ON_THE_WAY {
            told();
        }
        let line = json!({"type":"send","peerId":to,"data":[number, text],"id":number});
        writeln!(stdin, "{line}").unwrap();
    }
    (0..mails.min(ON_THE_WAY)).for_each(|_| told());
    let took = began.elapsed();
    for number in 0..mails {
        let message = far.expect("mail", |event: &Value| event["type"] == "message");
        assert_eq!(message["data"][0], number);
        assert_eq!(message["route"], "direct");
    }
    let megabytes = mails as f64 * MAIL_BYTES as f64 / 1e6;
    println!(
        "{megabytes:.1} MB in {took:?}: {:.2} MB/s over a round trip of {:?}",
        megabytes / took.as_secs_f64(),
        2 * DELAY
    );
    drop(stdin);
}

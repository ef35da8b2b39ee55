//! The formats, and the values of counters.

use p2p_node_protocol::Counter;
use prometheus_client::registry::Registry;

use super::document::empty;
use super::{encode, plain_text};

#[test]
fn counters_have_their_names_descriptions_and_values() {
    let mut sample = empty();
    sample.stats.add(Counter::MailDelivered, 7);
    let open = encode(&sample, &Registry::default()).unwrap();
    assert!(
        open.contains("# TYPE p2p_node_mail_delivered counter\np2p_node_mail_delivered_total 7\n"),
        "{open}"
    );
    assert!(open.ends_with("# EOF\n"));
    let plain = plain_text(&open);
    for counter in Counter::ALL {
        let name = format!("p2p_node_{}_total", counter.as_str());
        assert!(plain.contains(&format!("# HELP {name} {}\n", counter.doc())), "{name}");
        assert!(plain.contains(&format!("# TYPE {name} counter\n{name} ")), "{name}");
    }
}

#[test]
fn plain_text_names_counters_and_infos_in_the_head_as_in_the_series() {
    let open = "# HELP a First.\n# TYPE a counter\n# UNIT a bytes\na_total{x=\"1\"} 1\n# HELP b Second.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                # HELP c Third.\n# TYPE c unknown\nc 1\n# HELP d Fourth.\n# TYPE d gauge\nd 1\n# EOF\n";
    let plain = "# HELP a_total First.\n# TYPE a_total counter\na_total{x=\"1\"} 1\n# HELP b_info Second.\n# TYPE b_info gauge\n\
                 b_info{v=\"1\"} 1\n# HELP c Third.\n# TYPE c untyped\nc 1\n# HELP d Fourth.\n# TYPE d gauge\nd 1\n";
    assert_eq!(plain_text(open), plain);
}

#[test]
fn metrics_of_libp2p_that_are_not_documented_are_left_out() {
    let mut registry = Registry::default();
    libp2p::metrics::Metrics::new(&mut registry);
    let text = encode(&empty(), &registry).unwrap();
    for (name, is_kept) in [("libp2p_ping_rtt_seconds", true), ("libp2p_identify_remote_protocols", false)] {
        assert_eq!(text.contains(name), is_kept, "{name}");
    }
}

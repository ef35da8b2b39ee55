use super::*;
use crate::Core;
use crate::effect::Effect;
use crate::testing::core;

/// The node asks no more, and each answer makes room for one more question.
#[test]
fn questions_for_agents_are_bounded() {
    let mut core = core();
    let Core { peers, directory, cx, .. } = &mut core;
    let ask = |peers: &mut Peers, cx: &mut Cx| {
        peers.ask(PeerId::random(), Purpose::Connections, &Query::default(), None, 1, cx)
    };
    assert_eq!((0..2 * MAX_QUESTIONS).filter(|_| ask(peers, cx)).count(), MAX_QUESTIONS);
    let row = |peers: &Peers| {
        let usage =
            peers.usage().into_iter().find(|usage| usage.name == "questions for agents").expect("a row");
        (usage.size, usage.limit)
    };
    assert_eq!(row(peers), (MAX_QUESTIONS, MAX_QUESTIONS));
    let sent: Vec<Token> = cx.effects.iter().filter_map(question).collect();
    assert_eq!(sent.len(), MAX_QUESTIONS, "nothing left for the others");
    peers.on_found(sent[0], Err("the peer is gone".to_owned()), directory, cx);
    assert_eq!((ask(peers, cx), ask(peers, cx), row(peers).0), (true, false, MAX_QUESTIONS));
}

fn question(effect: &Effect) -> Option<Token> {
    match effect {
        Effect::Network(NetworkCommand::SendFind { token, .. }) => Some(*token),
        _ => None,
    }
}

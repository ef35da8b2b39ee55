use proptest::prelude::*;

use super::*;

const ANN: Address = Address::repeat_byte(1);
const BOB: Address = Address::repeat_byte(2);
const START: Instant = Instant::from_secs(1_000);

fn active() -> Option<AgentInfo> {
    Some(AgentInfo { is_active: true, ..AgentInfo::default() })
}

fn blocked() -> Option<AgentInfo> {
    Some(AgentInfo { is_active: true, is_blocked: true, ..AgentInfo::default() })
}

/// Begins a read of agents of a registry that knows addresses.
fn begin(cache: &mut Cache) -> Vec<Address> {
    cache
        .begin_read(|agent| Some(AgentQuery { agent: *agent, id: None }), START)
        .into_iter()
        .map(|query| query.agent)
        .collect()
}

fn changes(agents: &[Address]) -> Changes {
    Changes { agents: agents.to_vec(), ids: Vec::new() }
}

/// Looks an agent up and answers the read that follows, if there is one.
fn read(cache: &mut Cache, agent: Address, info: Option<AgentInfo>, now: Instant) -> bool {
    cache.look_up(&agent, true, now);
    let reads = cache.can_read();
    if reads {
        assert_eq!(begin(cache), [agent]);
        cache.on_read(&[(agent, info)], now);
    }
    reads
}

fn after(secs: u64) -> Instant {
    START + Duration::from_secs(secs)
}

#[test]
fn first_use_asks_for_one_read_and_answers_unknown() {
    let mut cache = Cache::default();
    for _ in 0..3 {
        assert_eq!(cache.look_up(&ANN, true, START), Registration::Unknown);
    }
    assert_eq!(cache.look_up(&BOB, true, START), Registration::Unknown);
    assert!(cache.can_read());
    assert_eq!(begin(&mut cache), [ANN, BOB]);
    cache.look_up(&ANN, true, START);
    assert!(!cache.can_read(), "an agent of the read on its way is not read again");
    let changed = cache.on_read(&[(ANN, active()), (BOB, Some(AgentInfo::default()))], START);
    assert_eq!(changed, [(ANN, Registration::Registered), (BOB, Registration::NotRegistered)]);
    assert_eq!(cache.peek(&ANN, START), Registration::Registered);
}

#[test]
fn entry_in_use_is_read_again_before_it_is_old_and_an_absence_sooner() {
    let mut cache = Cache::default();
    assert!(read(&mut cache, ANN, active(), START));
    assert!(read(&mut cache, BOB, Some(AgentInfo::default()), START));
    assert!(!read(&mut cache, BOB, None, after(47)));
    assert!(read(&mut cache, BOB, active(), after(48)), "four fifths of a minute");
    assert!(!read(&mut cache, ANN, None, after(479)));
    assert_eq!(cache.look_up(&ANN, true, after(480)), Registration::Registered);
    assert!(cache.can_read(), "four fifths of ten minutes");
}

#[test]
fn without_answers_a_registered_agent_counts_for_a_day_and_an_absence_for_a_minute() {
    let mut cache = Cache::default();
    assert!(read(&mut cache, ANN, active(), START));
    assert!(read(&mut cache, BOB, blocked(), START));
    let day = 24 * 3600;
    for (secs, ann, bob) in [
        (599, Registration::Registered, Registration::Blocked),
        (600, Registration::RegisteredOnce, Registration::Blocked),
        (day - 1, Registration::RegisteredOnce, Registration::Blocked),
        (day, Registration::Unknown, Registration::Unknown),
    ] {
        assert_eq!((cache.peek(&ANN, after(secs)), cache.peek(&BOB, after(secs))), (ann, bob), "{secs} s");
    }
    let carl = Address::repeat_byte(3);
    assert!(read(&mut cache, carl, Some(AgentInfo::default()), START));
    assert_eq!(cache.peek(&carl, after(59)), Registration::NotRegistered);
    assert_eq!(cache.peek(&carl, after(60)), Registration::Unknown);
}

#[test]
fn failed_read_is_repeated_with_the_same_agents_first() {
    let mut cache = Cache::default();
    cache.look_up(&ANN, true, START);
    begin(&mut cache);
    cache.look_up(&BOB, true, START);
    assert!(!cache.can_read(), "one read at a time");
    cache.on_read_failed();
    assert_eq!(begin(&mut cache), [ANN, BOB]);
}

#[test]
fn change_during_a_read_leads_to_another_read() {
    let mut cache = Cache::default();
    cache.look_up(&ANN, true, START);
    begin(&mut cache);
    cache.on_changed(&changes(&[ANN, BOB]));
    cache.on_read(&[(ANN, active())], START);
    assert_eq!(begin(&mut cache), [ANN], "of the agents in the cache only");
    assert_eq!(cache.on_read(&[(ANN, blocked())], START), [(ANN, Registration::Blocked)]);
    cache.on_changes_missed();
    assert_eq!(begin(&mut cache), [ANN]);
}

#[test]
fn agent_without_agreement_is_unknown_and_is_read_again_after_a_pause() {
    let mut cache = Cache::default();
    assert!(read(&mut cache, ANN, None, START));
    assert_eq!(cache.peek(&ANN, START), Registration::Unknown);
    assert!(!read(&mut cache, ANN, None, after(29)));
    assert!(read(&mut cache, ANN, active(), after(30)));
    cache.on_changed(&changes(&[ANN]));
    begin(&mut cache);
    assert_eq!(cache.on_read(&[(ANN, None)], after(31)), []);
    assert_eq!(cache.peek(&ANN, after(31)), Registration::Registered, "it keeps its last answer");
}

#[test]
fn cache_and_queue_have_limits() {
    let mut cache = Cache::default();
    let agent = |number: usize| Address::left_padding_from(&number.to_be_bytes());
    for number in 0..MAX_AGENTS + 10 {
        assert!(read(&mut cache, agent(number), active(), START));
    }
    assert_eq!((cache.len(), cache.waiting()), (MAX_AGENTS, 0));
    assert_eq!(cache.peek(&agent(9), START), Registration::Unknown, "the one used longest ago went");
    for number in 0..MAX_WAITING + 10 {
        cache.look_up(&agent(10_000 + number), true, START);
    }
    assert_eq!((cache.len(), cache.waiting()), (MAX_AGENTS, MAX_WAITING));
    for number in 0..MAX_AGENTS_PER_READ + 10 {
        cache.look_up(&agent(20_000 + number), false, START);
    }
    assert_eq!(cache.waiting(), MAX_WAITING + MAX_AGENTS_PER_READ);
    begin(&mut cache);
    cache.on_changes_missed();
    // Each entry waits once, and those of the read on its way are read again.
    assert_eq!(cache.waiting(), MAX_AGENTS + MAX_AGENTS_PER_READ);
    assert!(cache.waiting() <= MAX_WAITING_IN_ALL);
}

#[test]
fn agents_that_nobody_met_wait_behind_others_and_have_a_rate_and_push_nobody_out() {
    let mut cache = Cache::default();
    let agent = |number: usize| Address::left_padding_from(&number.to_be_bytes());
    assert!(read(&mut cache, ANN, active(), START));
    for number in 0..10_000 {
        assert_eq!(cache.look_up(&agent(number), false, START), Registration::Unknown);
    }
    assert_eq!((cache.len(), cache.waiting()), (1 + MAX_AGENTS_PER_READ, MAX_AGENTS_PER_READ));
    cache.look_up(&BOB, true, START);
    let first = begin(&mut cache);
    assert_eq!((first[0], first.len()), (BOB, MAX_AGENTS_PER_READ), "a met agent comes first");
    let answers: Vec<_> = first.into_iter().map(|agent| (agent, active())).collect();
    cache.on_read(&answers, START);
    // One a second is what they earn.
    for number in 0..10_000 {
        cache.look_up(&agent(20_000 + number), false, after(10));
    }
    assert_eq!(cache.waiting(), 1 + 10);
    assert_eq!(cache.peek(&ANN, after(10)), Registration::Registered);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    LookUp(u8),
    Begin,
    Answer(bool),
    Fail,
    Change(u8),
    Missed,
    Wait(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_u8..6).prop_map(Op::LookUp),
        2 => Just(Op::Begin),
        2 => any::<bool>().prop_map(Op::Answer),
        1 => Just(Op::Fail),
        1 => (0_u8..6).prop_map(Op::Change),
        1 => Just(Op::Missed),
        1 => any::<u16>().prop_map(Op::Wait),
    ]
}

proptest! {
    /// Whatever happens: no agent is in two reads at once, an agent that is used gets an answer, and
    /// nobody is registered without an answer that says so.
    #[test]
    fn cache_reads_each_agent_once_and_never_invents_an_answer(ops in proptest::collection::vec(op(), 1..200)) {
        let mut cache = Cache::default();
        let mut now = START;
        let mut read: Vec<Address> = Vec::new();
        let mut confirmed = std::collections::BTreeSet::new();
        for op in ops {
            match op {
                Op::LookUp(number) => {
                    let agent = Address::repeat_byte(number);
                    let found = cache.look_up(&agent, true, now);
                    let is_registered =
                        matches!(found, Registration::Registered | Registration::RegisteredOnce);
                    prop_assert!(!is_registered || confirmed.contains(&agent));
                }
                Op::Begin if cache.can_read() => {
                    prop_assert!(read.is_empty());
                    read = begin(&mut cache);
                    let different: std::collections::BTreeSet<_> = read.iter().collect();
                    prop_assert_eq!(different.len(), read.len());
                }
                Op::Begin => {}
                Op::Answer(is_active) => {
                    let answers: Vec<_> = read
                        .drain(..)
                        .map(|agent| (agent, Some(AgentInfo { is_active, ..AgentInfo::default() })))
                        .collect();
                    if is_active {
                        confirmed.extend(answers.iter().map(|(agent, _)| *agent));
                    }
                    cache.on_read(&answers, now);
                }
                Op::Fail => {
                    read.clear();
                    cache.on_read_failed();
                }
                Op::Change(number) => cache.on_changed(&changes(&[Address::repeat_byte(number)])),
                Op::Missed => cache.on_changes_missed(),
                Op::Wait(secs) => now += Duration::from_secs(secs.into()),
            }
        }
        // The servers answer again: every agent that is used gets an answer.
        cache.on_read_failed();
        now += NO_AGREEMENT_PAUSE;
        for number in 0..6 {
            cache.look_up(&Address::repeat_byte(number), true, now);
        }
        while cache.can_read() {
            let agents = begin(&mut cache);
            cache.on_read(&agents.into_iter().map(|agent| (agent, active())).collect::<Vec<_>>(), now);
        }
        for number in 0..6 {
            let known = cache.peek(&Address::repeat_byte(number), now);
            prop_assert!(known != Registration::Unknown, "{known:?}");
        }
    }
}

#[test]
fn agent_without_a_record_is_read_when_its_record_comes_and_when_its_claim_changes() {
    let (one, two) = (U256::from(1), U256::from(2));
    let query = |id| AgentQuery { agent: ANN, id: Some(id) };
    let mut cache = Cache::default();
    cache.look_up(&ANN, true, START);
    assert_eq!(cache.begin_read(|_| None, START), []);
    cache.look_up(&ANN, true, after(4));
    assert!(!cache.can_read(), "a short pause");
    cache.on_claim(&ANN, Some(one));
    assert_eq!(cache.begin_read(|_| Some(query(one)), after(4)), [query(one)]);
    cache.on_read(&[(ANN, active())], after(4));
    cache.on_claim(&ANN, Some(one));
    assert!(!cache.can_read(), "the same claim");
    cache.on_claim(&ANN, Some(two));
    assert_eq!(cache.begin_read(|_| Some(query(two)), after(5)), [query(two)]);
    cache.on_read(&[(ANN, active())], after(5));
    for (ids, is_read) in [(vec![one], false), (vec![one, two], true)] {
        cache.on_changed(&Changes { agents: Vec::new(), ids });
        assert_eq!(cache.can_read(), is_read, "the entry that it claims now");
    }
}

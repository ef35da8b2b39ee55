use super::*;

const START: Instant = Instant::from_secs(1_000);

fn after(secs: u64) -> Instant {
    START + Duration::from_secs(secs)
}

fn binding(number: usize) -> BindingHash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    BindingHash(hash)
}

const VALID: Option<Known> = Some(Known { is_valid: true, is_old: false });

#[test]
fn answer_counts_for_a_day_is_asked_again_after_eight_minutes_and_stale_after_ten() {
    let mut wallets = Wallets::new(true);
    assert_eq!(wallets.look_up(&binding(1), START), None);
    assert!(wallets.begin(binding(1), None, START));
    wallets.on_answer(binding(1), Some(true), START);
    assert_eq!(wallets.look_up(&binding(1), after(479)), VALID);
    assert_eq!(wallets.look_up(&binding(1), after(480)), Some(Known { is_valid: true, is_old: true }));
    assert!(!wallets.is_stale(&binding(1), after(599)) && wallets.is_stale(&binding(1), after(600)));
    // No server answers.
    assert!(wallets.begin(binding(1), None, after(600)));
    wallets.on_answer(binding(1), None, after(601));
    assert!(wallets.look_up(&binding(1), after(86_399)).is_some_and(|known| known.is_valid));
    assert_eq!(wallets.look_up(&binding(1), after(86_400)), None);
    // The owners of the wallet changed.
    wallets.on_answer(binding(1), Some(false), after(86_400));
    assert!(wallets.look_up(&binding(1), after(86_459)).is_some_and(|known| !known.is_valid));
    assert_eq!(wallets.look_up(&binding(1), after(86_460)), None, "the wallet may be deployed by now");
}

#[test]
fn questions_are_limited_for_each_neighbour_in_all_and_at_once() {
    let mut wallets = Wallets::new(true);
    let flooder = PeerId::random();
    let number = (0..100).filter(|number| wallets.begin(binding(*number), Some(flooder), START)).count();
    assert_eq!(number, 4);
    assert!(wallets.begin(binding(100), Some(PeerId::random()), START), "of another neighbour");
    assert!(!wallets.begin(binding(100), Some(PeerId::random()), START), "one question for each binding");
    let more = (200..300).filter(|number| wallets.begin(binding(*number), None, START)).count();
    assert_eq!((more, wallets.usage()[1].size), (MAX_QUESTIONS - 5, MAX_QUESTIONS));
    for number in 0..300 {
        wallets.on_answer(binding(number), Some(true), START);
    }
    let mut admitted = 0;
    for number in 300..400 {
        admitted += usize::from(wallets.begin(binding(number), None, START));
        wallets.on_answer(binding(number), Some(true), START);
    }
    assert_eq!(admitted, 32 - (MAX_QUESTIONS - 5), "32 in all; the five new ones count apart");
    assert!(wallets.begin(binding(400), None, after(1)));
}

#[test]
fn invented_bindings_of_any_number_of_neighbours_leave_room_for_wallets_in_use() {
    let mut wallets = Wallets::new(true);
    let new =
        (0..100).filter(|number| wallets.begin(binding(*number), Some(PeerId::random()), START)).count();
    assert_eq!(new, MAX_NEW);
    assert!(wallets.begin(binding(200), None, START));
    for number in 0..300 {
        wallets.on_answer(binding(number), Some(false), START);
        wallets.begin(binding(1_000 + number), Some(PeerId::random()), START);
        wallets.on_answer(binding(1_000 + number), Some(false), START);
    }
    assert!(wallets.begin(binding(201), None, START), "the rate of new bindings is apart");
}

#[test]
fn answers_are_kept_up_to_limit_and_used_ones_longest() {
    let mut wallets = Wallets::new(true);
    for number in 0..=MAX_ANSWERS {
        wallets.on_answer(binding(number), Some(true), START);
        assert_eq!(wallets.look_up(&binding(0), START), VALID, "in use");
    }
    assert_eq!((wallets.usage()[0].size, wallets.look_up(&binding(1), START)), (MAX_ANSWERS, None));
}

#[test]
fn node_without_rpc_servers_asks_no_wallet() {
    let mut wallets = Wallets::new(false);
    assert!(!wallets.begin(binding(1), None, START));
}

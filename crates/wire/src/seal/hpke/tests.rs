use crate::seal::kem::KemId;
use proptest::prelude::*;

use super::*;
use crate::seal::kem::kem_id;
use crate::seal::repeatable::DeterministicRng;

fn info(secret: &Secret) -> Info {
    Info {
        network: "dev".to_owned(),
        sender: NodePublicKey([7; 32]),
        recipient: Address::repeat_byte(9),
        kem_id: kem_id(&secret.public_key()),
        suite: Suite::default(),
    }
}

#[test]
fn sealed_frame_opens_and_both_ends_share_session() {
    let secret = Secret::from([3; 32]);
    for suite in Suite::ALL {
        let info = Info { suite, ..info(&secret) };
        let sealed = seal(&secret.public_key(), &info, b"hello", &mut DeterministicRng::new(0)).unwrap();
        assert_eq!((sealed.enc.len(), sealed.ciphertext.len()), (1120, 5 + 16));
        let (content, session) = open(&secret, &info, &sealed.enc, &sealed.ciphertext).unwrap();
        assert_eq!(content, b"hello");
        assert_eq!(session.id(), sealed.session.id());
        let another = seal(&secret.public_key(), &info, b"hello", &mut DeterministicRng::new(1)).unwrap();
        assert_ne!((&another.enc, another.session.id()), (&sealed.enc, sealed.session.id()));
    }
}

#[test]
fn sessions_of_two_suites_have_different_keys() {
    let secret = Secret::from([3; 32]);
    let session_id = |suite| {
        let info = Info { suite, ..info(&secret) };
        seal(&secret.public_key(), &info, b"", &mut DeterministicRng::new(0)).unwrap().session.id()
    };
    assert_ne!(session_id(Suite::ChaCha20Poly1305), session_id(Suite::Aes256Gcm));
}

#[test]
fn sealed_frame_opens_only_for_its_sender_recipient_network_and_key() {
    let secret = Secret::from([3; 32]);
    let right = info(&secret);
    let sealed = seal(&secret.public_key(), &right, b"hello", &mut DeterministicRng::new(0)).unwrap();
    for wrong in [
        Info { network: "main".to_owned(), ..right.clone() },
        Info { sender: NodePublicKey([8; 32]), ..right.clone() },
        Info { recipient: Address::repeat_byte(8), ..right.clone() },
        Info { kem_id: KemId([0; 16]), ..right.clone() },
        Info { suite: Suite::Aes256Gcm, ..right.clone() },
    ] {
        assert!(open(&secret, &wrong, &sealed.enc, &sealed.ciphertext).is_none(), "{wrong:?}");
    }
    assert!(open(&Secret::from([4; 32]), &right, &sealed.enc, &sealed.ciphertext).is_none());
}

#[test]
fn invalid_public_key_is_rejected() {
    let info = info(&Secret::from([3; 32]));
    assert!(seal(&[], &info, b"", &mut DeterministicRng::new(0)).is_none());
    // The coefficients of an ML-KEM public key are below 3,329 (FIPS 203 §7.2).
    assert!(seal(&[0xff; 1216], &info, b"", &mut DeterministicRng::new(0)).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]
    #[test]
    fn altered_ciphertext_does_not_open(
        content in proptest::collection::vec(any::<u8>(), 0..400), at: proptest::sample::Index, bit in 0..8_u32, cut: bool,
    ) {
        let secret = Secret::from([3; 32]);
        let SealedFrame { enc, ciphertext, .. } = seal(&secret.public_key(), &info(&secret), &content, &mut DeterministicRng::new(0)).unwrap();
        let mut whole = [&enc[..], &ciphertext].concat();
        let at = at.index(whole.len());
        if cut {
            whole.truncate(at);
        } else {
            whole[at] ^= 1 << bit;
        }
        let (enc, ciphertext) = whole.split_at(whole.len().min(enc.len()));
        prop_assert!(open(&secret, &info(&secret), enc, ciphertext).is_none());
    }
}

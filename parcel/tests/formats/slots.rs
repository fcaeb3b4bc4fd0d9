//! Key slots: each opens with its own secret and parcel only; what is stored is bounded and has one spelling.

use crate::{oracle, sample};
use parcel::{
    id::ParcelId,
    secret::ParcelKey,
    slot::{Argon2Cost, MAX_JSON, MAX_MEMORY_KIB, MAX_PASSES, RecoveryKey, Slot, SlotError, Slots},
};
use proptest::prelude::*;

/// The cheapest there is, so that tests are fast.
pub const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };

const PASSWORD: &[u8] = "correct horse – battery staple".as_bytes();

pub fn recovery() -> RecoveryKey {
    RecoveryKey::from_bytes(std::array::from_fn(|i| i as u8 * 13))
}

pub fn slots(cost: Argon2Cost) -> Slots {
    let mut slots = Slots::default();
    let key = sample::parcel_key();
    slots.set_password(PASSWORD, &key, &sample::parcel_id(), [0x5a; 16], cost).unwrap();
    slots.set_recovery(&recovery(), &key, &sample::parcel_id());
    slots
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_slot_gives_the_key_back(key: [u8; 32], parcel: [u8; 16], password in prop::collection::vec(any::<u8>(), 1..100), salt: [u8; 16], bits: [u8; 20]) {
        let (key, parcel, recovery) = (ParcelKey::from_bytes(key), ParcelId(parcel), RecoveryKey::from_bytes(bits));
        let mut slots = Slots::default();
        slots.set_password(&password, &key, &parcel, salt, CHEAP).unwrap();
        slots.set_recovery(&recovery, &key, &parcel);
        let read = Slots::from_json(slots.to_json().as_bytes()).unwrap();
        prop_assert_eq!(&read, &slots);
        prop_assert_eq!(&serde_json::from_str::<Slots>(&slots.to_json()).unwrap(), &slots);
        prop_assert_eq!(read.open_password(&password, &parcel), Ok(key.clone()));
        prop_assert_eq!(read.open_recovery(&recovery, &parcel), Ok(key));
        let mut wrong = password.clone();
        wrong[0] ^= 1;
        prop_assert_eq!(read.open_password(&wrong, &parcel), Err(SlotError::Wrong("password")));
    }
}

/// A keyboard may compose "ü" or type "u" and two dots; both open, whichever made the slot.
#[test]
fn composed_and_decomposed_letters_are_one_password() {
    let (key, parcel) = (sample::parcel_key(), sample::parcel_id());
    let (composed, decomposed) = ("gr\u{fc}\u{df}e \u{ac00}", "gru\u{308}\u{df}e \u{1100}\u{1161}");
    for new in [composed, decomposed] {
        let mut slots = Slots::default();
        slots.set_password(new.as_bytes(), &key, &parcel, [1; 16], CHEAP).unwrap();
        for typed in [composed, decomposed] {
            assert_eq!(slots.open_password(typed.as_bytes(), &parcel), Ok(key.clone()));
        }
        let wrong = slots.open_password("gru\u{df}e \u{ac00}".as_bytes(), &parcel);
        assert_eq!(wrong, Err(SlotError::Wrong("password")));
    }
}

/// A slot from before: under what was typed, bytes as they were.
#[test]
fn a_slot_under_decomposed_bytes_opens_with_them() {
    let (key, parcel) = (sample::parcel_key(), sample::parcel_id());
    let typed = "u\u{308}";
    let mut slots = Slots::default();
    let params = argon2::Params::new(CHEAP.memory_kib, CHEAP.passes, CHEAP.lanes, Some(32)).unwrap();
    let mut wrapping = [0; 32];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(typed.as_bytes(), &[1; 16], &mut wrapping)
        .unwrap();
    // The salt and the cost are those of a slot that this crate makes.
    slots.set_password(b"x", &key, &parcel, [1; 16], CHEAP).unwrap();
    let costs = [CHEAP.memory_kib, CHEAP.passes, CHEAP.lanes].map(u32::to_le_bytes).concat();
    let aad: [&[u8]; 3] = [parcel.as_bytes(), &costs, &[1; 16]];
    let by_bytes = oracle::envelope(&wrapping, "password slot", &aad, key.expose());
    if let Slot::Password { sealed, .. } = &mut slots.slots[0] {
        sealed.0.copy_from_slice(&by_bytes);
    }
    assert_eq!(slots.open_password(typed.as_bytes(), &parcel), Ok(key));
}

#[test]
fn any_flipped_bit_is_refused() {
    let json = slots(CHEAP).to_json().into_bytes();
    for at in 0..json.len() {
        for bit in 0..8 {
            let mut json = json.clone();
            json[at] ^= 1 << bit;
            // What still parses has one damaged slot, which does not open, and one whole slot.
            if let Ok(slots) = Slots::from_json(&json) {
                let password = slots.open_password(PASSWORD, &sample::parcel_id());
                let recovery = slots.open_recovery(&recovery(), &sample::parcel_id());
                let right = match (&password, &recovery) {
                    (Err(SlotError::Wrong("password")), Ok(key)) => *key == sample::parcel_key(),
                    (Ok(key), Err(SlotError::Wrong("recovery key"))) => *key == sample::parcel_key(),
                    _ => false,
                };
                assert!(right, "byte {at}, bit {bit}: {password:?} {recovery:?}");
            }
        }
    }
}

#[test]
fn a_slot_is_bound_to_its_parcel() {
    let (slots, other) = (slots(CHEAP), ParcelId([3; 16]));
    assert_eq!(slots.open_password(PASSWORD, &other), Err(SlotError::Wrong("password")));
    assert_eq!(slots.open_recovery(&recovery(), &other), Err(SlotError::Wrong("recovery key")));
    let wrong = RecoveryKey::from_bytes([1; 20]);
    assert_eq!(slots.open_recovery(&wrong, &sample::parcel_id()), Err(SlotError::Wrong("recovery key")));
}

#[test]
fn a_new_password_replaces_the_old_one() {
    let mut slots = slots(CHEAP);
    let key = slots.open_recovery(&recovery(), &sample::parcel_id()).unwrap();
    slots.set_password(b"changed elsewhere", &key, &sample::parcel_id(), [1; 16], CHEAP).unwrap();
    assert_eq!(slots.slots.len(), 2);
    assert_eq!(slots.open_password(PASSWORD, &sample::parcel_id()), Err(SlotError::Wrong("password")));
    assert_eq!(slots.open_password(b"changed elsewhere", &sample::parcel_id()), Ok(key.clone()));
    assert_eq!(slots.open_recovery(&recovery(), &sample::parcel_id()), Ok(key));
}

#[test]
fn a_missing_slot_is_named() {
    let slots = Slots::default();
    assert_eq!(slots.open_password(PASSWORD, &sample::parcel_id()), Err(SlotError::Missing("password")));
    assert_eq!(
        slots.open_recovery(&recovery(), &sample::parcel_id()),
        Err(SlotError::Missing("recovery key"))
    );
}

#[test]
fn costs_are_bounded_before_any_memory_is_taken() {
    let mut slots = Slots::default();
    let good = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
    for bad in [
        Argon2Cost { memory_kib: MAX_MEMORY_KIB + 1, ..good },
        Argon2Cost { memory_kib: u32::MAX, ..good },
        Argon2Cost { memory_kib: 7, ..good },
        Argon2Cost { passes: 0, ..good },
        Argon2Cost { passes: MAX_PASSES + 1, ..good },
        Argon2Cost { lanes: 0, ..good },
        Argon2Cost { lanes: u32::MAX, ..good },
    ] {
        let refused = slots.set_password(PASSWORD, &sample::parcel_key(), &sample::parcel_id(), [0; 16], bad);
        assert_eq!(refused, Err(SlotError::Cost(bad)));
        let json = slots_json(bad);
        assert_eq!(Slots::from_json(json.as_bytes()), Err(SlotError::Cost(bad)));
        assert!(serde_json::from_str::<Slots>(&json).is_err());
    }
    assert!(Slots::from_json(slots_json(good).as_bytes()).is_ok());
}

fn slots_json(cost: Argon2Cost) -> String {
    let Argon2Cost { memory_kib, passes, lanes } = cost;
    let (salt, sealed) = ("00".repeat(16), "00".repeat(80));
    format!(
        r#"{{"format":1,"slots":[{{"kind":"password","cost":{{"memory_kib":{memory_kib},"passes":{passes},"lanes":{lanes}}},"salt":"{salt}","sealed":"{sealed}"}}]}}"#
    )
}

#[test]
fn what_is_not_slots_is_refused() {
    let malformed = |json: &str| match Slots::from_json(json.as_bytes()) {
        Err(SlotError::Malformed(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(malformed("").contains("EOF"));
    assert!(malformed("[]").contains("expected"));
    assert!(malformed(r#"{"format":1,"slots":[],"more":1}"#).contains("unknown field"));
    assert!(malformed(r#"{"format":1,"slots":[{"kind":"usb"}]}"#).contains("unknown variant"));
    assert!(malformed(&" ".repeat(MAX_JSON + 1)).contains("too many"));
    let one = serde_json::to_string(&slots(CHEAP).slots[1]).unwrap();
    let twice = format!(r#"{{"format":1,"slots":[{one},{one}]}}"#);
    assert!(malformed(&twice).contains("two recovery key slots"));
    assert!(malformed(r#"{"format":0,"slots":[]}"#).contains("format 0"));
    assert!(malformed(r#"{"format":2,"slots":[]}"#).contains("format 2"));
    // Whatever a newer program has put there.
    for newer in [r#""slots":[]"#, r#""slots":[{"kind":"usb","path":"x"}],"more":1"#, r#""wraps":{}"#] {
        let newer = Slots::from_json(format!(r#"{{"format":3,{newer}}}"#).as_bytes());
        assert_eq!(newer, Err(SlotError::Format(3)));
    }
}

#[test]
fn passwords_have_a_length() {
    let slots = slots(CHEAP);
    for bad in [vec![], vec![b'x'; 1025]] {
        assert_eq!(slots.open_password(&bad, &sample::parcel_id()), Err(SlotError::PasswordLength));
    }
}

#[test]
fn agrees_with_the_document() {
    let cost = Argon2Cost { memory_kib: 64, passes: 3, lanes: 2 };
    let params = argon2::Params::new(64, 3, 2, Some(32)).unwrap();
    let mut wrapping = [0; 32];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(PASSWORD, &[0x5a; 16], &mut wrapping)
        .unwrap();
    let costs = [64u32, 3, 2].map(u32::to_le_bytes).concat();
    let parcel = sample::parcel_id();
    let aad: [&[u8]; 3] = [parcel.as_bytes(), &costs, &[0x5a; 16]];
    let by_password = oracle::envelope(&wrapping, "password slot", &aad, sample::parcel_key().expose());
    let wrapping =
        blake3::derive_key("waystation v1 recovery key", &std::array::from_fn::<u8, 20, _>(|i| i as u8 * 13));
    let aad: [&[u8]; 1] = [parcel.as_bytes()];
    let by_recovery = oracle::envelope(&wrapping, "recovery slot", &aad, sample::parcel_key().expose());
    for slot in slots(cost).slots {
        match slot {
            Slot::Password { sealed, .. } => assert_eq!(sealed.0.as_slice(), by_password),
            Slot::Recovery { sealed } => assert_eq!(sealed.0.as_slice(), by_recovery),
        }
    }
}

#[test]
fn slots_that_are_shared_open_with_the_same_secrets_and_say_whose_they_are() {
    let (of, other) = (sample::parcel_id(), ParcelId([0x77; 16]));
    let shared = slots(CHEAP).shared_from(&of);
    let read = Slots::from_json(shared.to_json().as_bytes()).unwrap();
    assert!(shared.to_json().starts_with(&format!(r#"{{"format":2,"of":"{of}""#)), "{}", shared.to_json());
    assert_eq!(read.open_password(PASSWORD, &other), Ok(sample::parcel_key()));
    assert_eq!(read.open_recovery(&recovery(), &other), Ok(sample::parcel_key()));
    // Without saying so, they open nothing elsewhere.
    assert!(slots(CHEAP).open_password(PASSWORD, &other).is_err());
    // A new password for the new parcel, and work that is rescued again.
    let mut changed = read.clone().shared_from(&other);
    changed.set_password(b"new", &sample::parcel_key(), &other, [1; 16], CHEAP).unwrap();
    assert_eq!(changed.open_password(b"new", &ParcelId([0x78; 16])), Ok(sample::parcel_key()));
}

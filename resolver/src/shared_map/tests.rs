//! The map against `BTreeMap`, and what two copies still share.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
    Add(u16),
    Retain(u16),
    Copy,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..400u16;
    let step = prop_oneof![
        60 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
        30 => key.clone().prop_map(Step::Remove),
        10 => key.prop_map(Step::Add),
        1 => (1..20u16).prop_map(Step::Retain),
        5 => Just(Step::Copy),
    ];
    proptest::collection::vec(step, 0..600)
}

fn check(map: &SharedMap<u16, u8>, model: &BTreeMap<u16, u8>) -> Result<(), TestCaseError> {
    prop_assert!(map.iter().eq(model.iter()));
    prop_assert!(map.iter().rev().eq(model.iter().rev()));
    prop_assert!(map.into_iter().eq(model));
    prop_assert_eq!(map.last_key_value(), model.last_key_value());
    prop_assert_eq!(map.len(), model.len());
    prop_assert_eq!(map.is_empty(), model.is_empty());
    prop_assert!(map.chunks.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
    for key in 0..400 {
        prop_assert_eq!(map.get_key_value(&key), model.get_key_value(&key));
        prop_assert_eq!(map.contains_key(&key), model.contains_key(&key));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_is_a_map(steps in steps()) {
        let mut map = SharedMap::new();
        let mut model = BTreeMap::new();
        let mut copies = Vec::from([(map.clone(), model.clone())]);
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                }
                Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                Step::Add(key) => {
                    let add = |value: Option<&mut u8>| value.map(|v| *v = v.wrapping_add(1));
                    prop_assert_eq!(add(map.get_mut(&key)), add(model.get_mut(&key)));
                }
                Step::Retain(part) => {
                    map.retain(|key, _| key % part != 0);
                    model.retain(|key, _| key % part != 0);
                }
                Step::Copy => copies.push((map.clone(), model.clone())),
            }
        }
        check(&map, &model)?;
        for (copy, its_model) in &copies {
            check(copy, its_model)?;
            let keys = its_model.keys().chain(model.keys()).copied();
            let mut keys: Vec<u16> = keys.collect();
            keys.sort_unstable();
            keys.dedup();
            keys.retain(|key| its_model.get(key) != model.get(key));
            let found = copy.differences(&map);
            prop_assert!(found.iter().map(|(key, ..)| **key).eq(keys));
            for (key, before, after) in found {
                prop_assert_eq!((before, after), (its_model.get(key), model.get(key)));
            }
            prop_assert_eq!(*copy == map, *its_model == model);
        }
        map.clear();
        check(&map, &BTreeMap::new())?;
    }
}

#[test]
fn a_change_copies_one_chunk() {
    let map: SharedMap<u32, u32> = (0..1000).map(|key| (key, 0)).collect();
    let mut next = map.clone();
    next.insert(500, 1);
    let pairs = || map.chunks.iter().zip(&next.chunks);
    assert_eq!(pairs().filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
    assert_eq!(map.differences(&next), [(&500, Some(&0), Some(&1))]);
    assert_eq!(
        map.chunks.len(),
        1000_usize.div_ceil(CHUNK_MAX),
        "filled in order, chunks are full"
    );
}

#[test]
fn as_json_and_back() {
    let map: SharedMap<String, u32> =
        [("b".to_string(), 2), ("a".to_string(), 1)].into_iter().collect();
    let json = serde_json::to_string(&map).unwrap();
    assert_eq!(json, r#"{"a":1,"b":2}"#);
    assert_eq!(serde_json::from_str::<SharedMap<String, u32>>(&json).unwrap(), map);
    assert_eq!(map["b"], 2);
    assert!(serde_json::from_str::<SharedMap<String, u32>>("[]").is_err());
}

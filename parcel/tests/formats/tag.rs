//! The hardware check, both ways: what meets the tag passes, and each thing that does not is named.

use crate::sample;
use parcel::tag::{Inventory, Miss, Start, Tag, Wishes, baseline_features};
use proptest::prelude::*;

fn misses(change: impl FnOnce(&mut Inventory)) -> Vec<Miss> {
    let mut kiosk = sample::inventory();
    change(&mut kiosk);
    sample::tag().check(&kiosk, Start::Resume)
}

fn miss(must: bool, item: &str, needed: &str, found: &str) -> Vec<Miss> {
    vec![Miss { must, item: item.into(), needed: needed.into(), found: found.into() }]
}

#[test]
fn a_kiosk_that_has_all_of_it_passes() {
    assert_eq!(misses(|_| ()), []);
    let more = misses(|kiosk| {
        kiosk.memory_mib *= 2;
        kiosk.cpus += 6;
        kiosk.features.extend(["avx2".to_owned(), "svm".to_owned()]);
        kiosk.device_models.insert(2);
        kiosk.screen = Some((240, 67));
        kiosk.sound = true;
    });
    assert_eq!(more, []);
}

#[test]
fn each_must_is_named() {
    let vendor = |name: &'static str| move |kiosk: &mut Inventory| kiosk.vendor = name.into();
    assert_eq!(misses(vendor("GenuineIntel")), miss(true, "cpu.vendor", "AuthenticAMD", "GenuineIntel"));
    assert_eq!(
        misses(|kiosk| kiosk.kvm = false),
        miss(true, "kvm", "hardware virtualization (KVM)", "none that works")
    );
    assert_eq!(
        misses(|kiosk| assert!(kiosk.features.remove("sse4_2"))),
        miss(true, "cpu.feature.sse4_2", "CPU feature sse4_2", "AMD EPYC without it")
    );
    assert_eq!(
        misses(|kiosk| kiosk.cpus = 1),
        miss(true, "vcpus", "2 CPUs", "1 CPU")[..]
            .iter()
            .cloned()
            .chain(miss(false, "cores", "2 CPUs", "1 CPU"))
            .collect::<Vec<_>>()
    );
    assert_eq!(misses(|kiosk| kiosk.memory_mib = 511), miss(true, "memory", "512 MiB", "511 MiB"));
    assert_eq!(
        misses(|kiosk| kiosk.device_models = [2, 3].into()),
        miss(true, "device_model", "device model 1", "device models 2, 3")
    );
}

#[test]
fn each_wish_is_named_and_refuses_nothing() {
    let mut tag = sample::tag();
    tag.wishes = Wishes { screen: Some((100, 30)), cores: Some(4), sound: true, kbit_per_s: Some(2000) };
    let found = tag.check(&sample::inventory(), Start::Resume);
    let expected = [
        miss(false, "screen", "100×30", "80×25"),
        miss(false, "cores", "4 CPUs", "2 CPUs"),
        miss(false, "sound", "a sound device", "none"),
        miss(false, "bandwidth", "2000 kbit/s", "1000 kbit/s"),
    ];
    assert_eq!(found, expected.concat());
    tag.wishes.cores = None;
    tag.wishes.sound = false;
    let unknown = Inventory { screen: None, kbit_per_s: None, ..sample::inventory() };
    assert_eq!(tag.check(&unknown, Start::Resume), [], "what is not known is not missed");
}

#[test]
fn everything_is_named_at_once() {
    let bare = Inventory {
        vendor: "GenuineIntel".to_owned(),
        cpu_model: "i386".to_owned(),
        features: Default::default(),
        cpus: 1,
        memory_mib: 64,
        device_models: Default::default(),
        kvm: false,
        screen: Some((40, 25)),
        sound: false,
        kbit_per_s: Some(1),
    };
    let items: Vec<_> = sample::tag().check(&bare, Start::Resume).into_iter().map(|miss| miss.item).collect();
    let features = sample::tag().cpu.features.into_iter().map(|name| format!("cpu.feature.{name}"));
    let mut expected = vec!["kvm".to_owned(), "cpu.vendor".to_owned()];
    expected.extend(features);
    expected.extend(["vcpus", "memory", "device_model", "screen", "cores", "bandwidth"].map(str::to_owned));
    assert_eq!(items, expected);
}

#[test]
fn a_machine_never_started_runs_on_any_vendor() {
    let mut tag = sample::tag();
    tag.cpu.vendor = None;
    let intel = Inventory { vendor: "GenuineIntel".to_owned(), ..sample::inventory() };
    assert_eq!(tag.check(&intel, Start::Resume), []);
}

#[test]
fn a_cold_boot_needs_neither_vendor_nor_device_model() {
    let mut other = Inventory { vendor: "GenuineIntel".to_owned(), ..sample::inventory() };
    other.device_models = [7].into();
    let items =
        |start| -> Vec<_> { sample::tag().check(&other, start).into_iter().map(|miss| miss.item).collect() };
    assert_eq!(items(Start::Resume), ["cpu.vendor", "device_model"]);
    assert_eq!(items(Start::ColdBoot), [""; 0]);
    other.memory_mib = 1;
    other.features.remove("sse4_2");
    let items: Vec<_> =
        sample::tag().check(&other, Start::ColdBoot).into_iter().map(|miss| miss.item).collect();
    assert_eq!(items, ["cpu.feature.sse4_2", "memory"], "what any start needs stays needed");
}

#[test]
fn the_baseline_counts_even_when_no_feature_is_listed() {
    let mut tag = sample::tag();
    tag.cpu.features.clear();
    let mut kiosk = sample::inventory();
    assert_eq!(tag.check(&kiosk, Start::Resume), []);
    tag.cpu.baseline = "x86-64-v3".to_owned();
    let items: Vec<_> = tag.check(&kiosk, Start::Resume).into_iter().map(|miss| miss.item).collect();
    let v3 = ["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"];
    assert_eq!(items, v3.map(|name| format!("cpu.feature.{name}")));
    kiosk.features = baseline_features("x86-64-v3").unwrap();
    assert_eq!(tag.check(&kiosk, Start::Resume), []);
    tag.cpu.baseline = "x86-64-v9".to_owned();
    assert_eq!(
        tag.check(&kiosk, Start::Resume),
        miss(true, "cpu.baseline", "x86-64-v9", "a kiosk that does not know this baseline")
    );
}

#[test]
fn baselines_grow() {
    let [v1, v2, v3] = ["x86-64-v1", "x86-64-v2", "x86-64-v3"].map(|name| baseline_features(name).unwrap());
    assert!(v1.is_subset(&v2) && v2.is_subset(&v3));
    assert_eq!((v1.len(), v2.len(), v3.len()), (9, 16, 25));
    assert_eq!(baseline_features("x86-64"), None);
}

proptest! {
    /// A miss says `must` exactly when the machine cannot run, whatever the two sides are.
    #[test]
    fn refuses_exactly_when_something_needed_is_not_there(
        vcpus in 1u32..4, cpus in 1u32..4, need in 1u64..4, have in 1u64..4, model in 1u32..3,
        vendors in (0u8..3, 0u8..2), drop in prop::option::of(prop::sample::select(vec!["sse2", "popcnt", "avx"])), kvm: bool,
        sound: bool, cores in prop::option::of(1u32..4),
    ) {
        let names = ["AuthenticAMD", "GenuineIntel"];
        let tag = Tag {
            vcpus,
            memory_mib: need,
            device_model: model,
            wishes: Wishes { sound, cores, ..Wishes::default() },
            ..sample::tag()
        };
        let mut tag = tag;
        tag.cpu.vendor = names.get(usize::from(vendors.0)).map(|name| (*name).to_owned());
        let mut kiosk = Inventory { cpus, memory_mib: have, kvm, ..sample::inventory() };
        kiosk.vendor = names[usize::from(vendors.1)].to_owned();
        let lost = drop.is_some_and(|name| kiosk.features.remove(name));
        let runs = kvm && !lost && cpus >= vcpus && have >= need && model == 1 && (vendors.0 == 2 || vendors.0 == vendors.1);
        let found = tag.check(&kiosk, Start::Resume);
        prop_assert_eq!(found.iter().all(|miss| !miss.must), runs, "{:?}", found);
        let likes = !sound && cores.is_none_or(|cores| cores <= cpus);
        prop_assert_eq!(found.iter().all(|miss| miss.must), likes, "{:?}", found);
    }
}

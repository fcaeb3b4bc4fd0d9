use super::*;

#[test]
fn another_disk_is_refused() {
    let mut config = vec![0; 60];
    config[..8].copy_from_slice(&2048u64.to_le_bytes());
    let state = BlockState { config: config.clone() };
    assert!(state.check(&config).is_ok());
    config[0] = 1;
    let why = state.check(&config).unwrap_err().to_string();
    assert!(why.contains("its disk had 2048 sectors and the disk here has 2049"), "{why}");
    assert!(state.check(&[]).is_err());
}

#[test]
fn without_a_backend_the_disk_has_no_size() {
    let disk = Block::new(None);
    let mut capacity = [0xff; 8];
    capacity.fill(0);
    disk.read_config(0, &mut capacity);
    assert_eq!((u64::from_le_bytes(capacity), disk.features()), (0, 0));
}

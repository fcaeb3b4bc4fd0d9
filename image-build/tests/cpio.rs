//! The archive writer against GNU cpio.

use image_build::cpio;
use image_build::tree::{Kind, Node, Tree};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

fn archive(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    cpio::write(tree, &mut bytes).unwrap();
    bytes
}

fn gnu_cpio(arguments: &[&str], folder: &Path, input: Vec<u8>) -> String {
    let mut child = Command::new("cpio")
        .args(arguments)
        .env("LC_ALL", "C")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("apt-get install cpio");
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn rights_owners_devices_and_links_are_listed_as_given() {
    let mut tree = Tree::default();
    tree.put("dev/console", 0o600, Kind::CharDevice { major: 5, minor: 1 });
    tree.put_owned("run/box", Node { kind: Kind::Folder, mode: 0o1770, uid: 101, gid: 100 });
    tree.link("bin", "usr/bin");
    tree.file("init", 0o755, *b"program");
    let listing = gnu_cpio(&["-itv", "--numeric-uid-gid"], Path::new("/"), archive(&tree));
    let lines: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
    let line = |path: &str| {
        lines.iter().find(|words| words.contains(&path)).unwrap_or_else(|| panic!("{path}: {listing}"))
    };
    assert_eq!(line("dev/console")[..6], ["crw-------", "1", "0", "0", "5,", "1"]);
    assert_eq!(line("run/box")[..4], ["drwxrwx--T", "2", "101", "100"]);
    assert!(listing.contains("bin -> usr/bin"), "{listing}");
    assert_eq!(line("init")[..5], ["-rwxr-xr-x", "1", "0", "0", "7"]);
    // 1970, so nothing of the building machine's clock.
    assert!(lines.iter().all(|words| words.contains(&"1970")), "{listing}");
}

fn trees() -> impl Strategy<Value = BTreeMap<String, (Vec<u8>, u32)>> {
    let name = "[a-c]{1,2}(/[x-z]{1,40}){0,3}";
    let file = (prop::collection::vec(any::<u8>(), 0..300), 0u32..0o1000);
    prop::collection::btree_map(name, file, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// GNU cpio unpacks the files that went in, with their bytes and rights.
    #[test]
    fn what_is_packed_is_unpacked(files in trees()) {
        let mut tree = Tree::default();
        // A name that is also a folder of another cannot be a file.
        let whole = |path: &str| !files.keys().any(|other| other.starts_with(&format!("{path}/")));
        let files: Vec<_> = files.iter().filter(|(path, _)| whole(path)).collect();
        for (path, (bytes, mode)) in &files {
            tree.file(path, *mode, bytes.clone());
        }
        let folder = tempfile::tempdir().unwrap();
        gnu_cpio(&["-id", "--quiet", "--no-preserve-owner"], folder.path(), archive(&tree));
        for (path, (bytes, mode)) in files {
            let place = folder.path().join(path);
            let rights = std::fs::metadata(&place).unwrap().permissions().mode() & 0o777;
            prop_assert_eq!(rights, *mode & 0o777);
            std::fs::set_permissions(&place, PermissionsExt::from_mode(0o600)).unwrap();
            prop_assert_eq!(&std::fs::read(&place).unwrap(), bytes);
        }
    }
}

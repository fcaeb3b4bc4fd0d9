//! One change to a right configuration, one sentence.

use crate::{GOOD, folder, parse};
use std::path::Path;

/// What a change to [`GOOD`] is answered with, less the folder's name.
fn complaints(folder: &Path, from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    let mistakes = parse(folder, &GOOD.replacen(from, to, 1)).expect_err(to);
    let prefix = format!("{}/", folder.display());
    mistakes.iter().map(|line| line.replace(&prefix, "")).collect()
}

#[test]
fn each_mistake_has_its_sentence() {
    let folder = folder();
    let cases = [
        // Shape.
        (
            "title = \"Library\"",
            "tittle = \"Library\"",
            "kiosk.toml:2: tittle is not a key of kiosk.toml: did you mean title?",
        ),
        ("[wipe]", "[wiep]", "kiosk.toml:19: wiep is not a key of kiosk.toml: did you mean wipe?"),
        (
            "discard = true",
            "colour = true",
            "kiosk.toml:20: wipe.colour is not a key of kiosk.toml: known here are discard, power_off_on_failure",
        ),
        ("title = \"Library\"", "title = Library", "kiosk.toml:2: this is not TOML ("),
        (
            "title = \"Library\"",
            "title = 3",
            "kiosk.toml:2: title is a number where a string in quotes belongs",
        ),
        (
            "discard = true",
            "discard = \"yes\"",
            "kiosk.toml:20: wipe.discard is a string where true or false belongs",
        ),
        (
            "size_mib = 0",
            "size_mib = 1.5",
            "kiosk.toml:17: cache.size_mib is a fraction where a whole number belongs",
        ),
        (
            "kdc = [\"kdc1.example.org:88\"]",
            "kdc = \"kdc1.example.org:88\"",
            "kiosk.toml:5: realm.kdc is a string where a list of strings belongs",
        ),
        (
            "kdc = [\"kdc1.example.org:88\"]",
            "kdc = [88]",
            "kiosk.toml:5: realm.kdc holds a number where a string in quotes belongs",
        ),
        (
            "name = \"EXAMPLE.ORG\"\n",
            "",
            "kiosk.toml:3: realm.name is missing: write name = \"EXAMPLE.ORG\" under [realm]",
        ),
        (
            "url = \"https://parcels.example.org\"\n",
            "",
            "kiosk.toml:7: server.url is missing: write url = \"https://parcels.example.org\" under [server]",
        ),
        ("ca = \"ca.pem\"\n", "", "kiosk.toml:7: server.ca is missing: write ca = \"ca.pem\" under [server]"),
        (
            "[wipe]\n",
            "[wipe]\ntitle = \"Library\"\n",
            "kiosk.toml:20: wipe.title is not a key of kiosk.toml: title belongs at the top, before the first [table]",
        ),
        (
            "[server]\n",
            "[server]\nkdc = []\n",
            "kiosk.toml:8: server.kdc is not a key of kiosk.toml: kdc belongs under [realm]",
        ),
        (
            "size_mib = 0",
            "size_mib = 99_999_999_999_999_999_999",
            "kiosk.toml:17: cache.size_mib is 99999999999999999999: write a number from 0 to 16777216",
        ),
        (
            "title = \"Library\"",
            "title = \"Library\"\ntitle = \"Again\"",
            "kiosk.toml:3: this is not TOML (duplicate key",
        ),
        (
            "[realm]\n",
            "[[realm]]\n",
            "kiosk.toml:3: realm is a list where a table, [realm] on a line of its own, belongs",
        ),
        // Names.
        (
            "front-desk-1",
            "front desk",
            "kiosk.toml:1: name is \"front desk\": write 1 to 63 letters, digits and inner dashes, or leave it out",
        ),
        ("\"Library\"", "\"\"", "kiosk.toml:2: title is empty: write the words"),
        ("\"Library\"", "\"a\\tb\"", "kiosk.toml:2: title holds a control character"),
        (
            "kpasswd = \"kdc1.example.org:464\"",
            "kdc_proxy = \"http://kdcproxy.example.org/KdcProxy\"",
            "kiosk.toml:6: realm.kdc_proxy is \"http://kdcproxy.example.org/KdcProxy\": write an https URL",
        ),
        (
            "kpasswd = \"kdc1.example.org:464\"",
            "kdc_proxy = \"https://kdcproxy.example.org/KdcProxy\"\nweak_preauth = true",
            "kiosk.toml:7: realm.weak_preauth is not needed with kdc_proxy or pkinit_anchors",
        ),
        (
            "[hosts]",
            "[realms]\nOTHER.ORG = []\n[hosts]",
            "kiosk.toml:11: realms.OTHER is a table, as dots make it: write the whole name in quotes",
        ),
        (
            "[hosts]",
            "[realms]\n\"OTHER.ORG\" = [\"kdc\"]\n[hosts]",
            "kiosk.toml:11: realms.OTHER.ORG is \"kdc\": write host:port",
        ),
        (
            "EXAMPLE.ORG",
            "EXAMPLE ORG",
            "kiosk.toml:4: realm.name is \"EXAMPLE ORG\", not a realm: write something like \"EXAMPLE.ORG\"",
        ),
        (
            "kdc1.example.org:88",
            "kdc1.example.org",
            "kiosk.toml:5: realm.kdc is \"kdc1.example.org\": write host:port, such as \"kdc1.example.org:88\"",
        ),
        (
            "kdc1.example.org:88",
            "kdc1.example.org:0",
            "kiosk.toml:5: realm.kdc is \"kdc1.example.org:0\": write host:port",
        ),
        (
            "kdc1.example.org:88",
            "10.0.0.256:88",
            "kiosk.toml:5: realm.kdc is \"10.0.0.256:88\": write host:port",
        ),
        (
            "kdc1.example.org:464",
            "kdc1.example.org:x",
            "kiosk.toml:6: realm.kpasswd is \"kdc1.example.org:x\": write host:port",
        ),
        // The server.
        (
            "https://parcels",
            "http://parcels",
            "kiosk.toml:8: server.url is http, which would send tickets and tokens in the clear: write \"https://parcels.example.org\"",
        ),
        (
            "https://parcels.example.org",
            "parcels.example.org",
            "kiosk.toml:8: server.url is \"parcels.example.org\", not a URL (relative URL without a base): write one such as",
        ),
        (
            "https://parcels",
            "ftp://parcels",
            "kiosk.toml:8: server.url has the scheme \"ftp\": write one such as",
        ),
        (
            "https://parcels.example.org",
            "https://192.0.2.10",
            "kiosk.toml:8: server.url names an address, but Kerberos tickets are for names: write a host name and, if it is not in DNS, its address under [hosts]",
        ),
        (
            "parcels.example.org\"\nca",
            "parcels.example.org/v1\"\nca",
            "kiosk.toml:8: server.url has something after the host (\"https://parcels.example.org/v1\"): write only https, host and port",
        ),
        (
            "https://parcels",
            "https://me:secret@parcels",
            "kiosk.toml:8: server.url holds a user or password, which would lie open in the image: leave them out",
        ),
        (
            "https://parcels.example.org",
            "https://par_cels.example.org",
            "kiosk.toml:8: server.url is \"https://par_cels.example.org\", whose host is not a host name",
        ),
        (
            "parcels.example.org\"\nca",
            "parcels.example.org:0\"\nca",
            "kiosk.toml:8: server.url has port 0 (\"https://parcels.example.org:0\"), where nothing can listen: write the",
        ),
        // Its CA.
        (
            "ca.pem",
            "",
            "kiosk.toml:9: server.ca is empty: write the path of a file, from the folder of the kiosk.toml",
        ),
        (
            "ca.pem",
            "gone.pem",
            "kiosk.toml:9: server.ca names gone.pem, which does not exist: write the path of the CA's certificate",
        ),
        (
            "ca.pem",
            ".",
            "kiosk.toml:9: server.ca names ., which is a folder: write the path of the CA's certificate",
        ),
        (
            "ca.pem",
            "text.pem",
            "kiosk.toml:9: server.ca names text.pem, which is not PEM, no block begins in it: write the path of a PEM file",
        ),
        (
            "ca.pem",
            "ca.cer",
            "kiosk.toml:9: server.ca names ca.cer, which is a certificate in DER: make PEM of it with openssl x509 -inform DER",
        ),
        (
            "ca.pem",
            "cut.pem",
            "kiosk.toml:9: server.ca names cut.pem, which holds 1 blocks, of which only 0 can be read, the one that begins in line 1 is damaged: copy",
        ),
        (
            "ca.pem",
            "second-cut.pem",
            "kiosk.toml:9: server.ca names second-cut.pem, which holds 2 blocks, of which only 1 can be read, the one that begins in line ",
        ),
        (
            "ca.pem",
            "csr.pem",
            "kiosk.toml:9: server.ca names csr.pem, which holds a block \"PUBLIC KEY\" that is not a certificate: write the path",
        ),
        (
            "ca.pem",
            "trusted.pem",
            "kiosk.toml:9: server.ca names trusted.pem, which holds a TRUSTED CERTIFICATE: write it as a plain one with openssl x509",
        ),
        (
            "ca.pem",
            "locked.key",
            "kiosk.toml:9: server.ca names locked.key, which holds a key that needs a passphrase: write it without one",
        ),
        (
            "ca.pem",
            "not-x509.pem",
            "kiosk.toml:9: server.ca names not-x509.pem, of whose 1 certificates number 1 cannot be read: copy the file again",
        ),
        (
            "ca.pem",
            "ca-and-key.pem",
            "kiosk.toml:9: server.ca names ca-and-key.pem, which holds a private key that would lie open in the image: name a file with the certificate only",
        ),
        (
            "ca.pem",
            "leaf.pem",
            "kiosk.toml:9: server.ca names leaf.pem, whose certificate \"CN=Test\" is not a CA's: name the certificate that signed the server's",
        ),
        (
            "ca.pem",
            "old.pem",
            "kiosk.toml:9: server.ca names old.pem, whose certificate \"CN=Test\" holds only from",
        ),
        // Hosts and terminals.
        (
            "192.0.2.10",
            "192.0.2",
            "kiosk.toml:11: hosts.parcels.example.org is \"192.0.2\", not an IP address: write one such as \"192.0.2.10\"",
        ),
        (
            "\"parcels.example.org\" =",
            "\"Parcels.example.org\" =",
            "kiosk.toml:11: hosts.Parcels.example.org names \"Parcels.example.org\", not a host name: write lower-case labels",
        ),
        (
            "\"parcels.example.org\" =",
            "parcels.example.org =",
            "kiosk.toml:11: hosts.parcels is a table, as dots make it: write the whole name in quotes",
        ),
        (
            "\"192.0.2.10\"",
            "10",
            "kiosk.toml:11: hosts.parcels.example.org is a number where a string in quotes belongs",
        ),
        (
            "tty1",
            "/dev/tty1",
            "kiosk.toml:13: console.screen is \"/dev/tty1\", not a terminal: write tty1 for screen and keyboard or ttyS0 for the first serial port",
        ),
        // Nobody would see it: only the first is in front, and switching is locked.
        ("tty1", "tty2", "kiosk.toml:13: console.screen is \"tty2\", not a terminal"),
        ("tty1", "ttyS32", "kiosk.toml:13: console.screen is \"ttyS32\", not a terminal"),
        (
            "ttyS1",
            "tty1",
            "kiosk.toml:14: console.log is tty1, where the login screen is: name another terminal or leave it out",
        ),
        // Cache, image.
        (
            "\"auto\"",
            "\"ssd\"",
            "kiosk.toml:16: cache.kind is \"ssd\": write \"memory\", \"disk\" or \"auto\"",
        ),
        (
            "size_mib = 0",
            "size_mib = 5",
            "kiosk.toml:17: cache.size_mib is 5, too little to hold a session: write 0 (half of the memory) or at least 64",
        ),
        ("size_mib = 0", "size_mib = -1", "kiosk.toml:17: cache.size_mib is -1: write a number from 0 to"),
        (
            "kind = \"auto\"\nsize_mib = 0",
            "kind = \"disk\"\nsize_mib = 512",
            "kiosk.toml:17: cache.size_mib limits a cache in memory, but cache.kind is \"disk\": leave it out, the partition's size counts",
        ),
        (
            "zstd_level = 3",
            "zstd_level = 20",
            "kiosk.toml:18: cache.zstd_level is 20: write a number from 1 to 19",
        ),
        (
            "zstd_level = 9",
            "zstd_level = 0",
            "kiosk.toml:30: image.zstd_level is 0: write a number from 1 to 19",
        ),
        (
            "cache_partition_mib = 0",
            "cache_partition_mib = 10",
            "kiosk.toml:31: image.cache_partition_mib is 10, too little for a cache: write 0 (none) or at least 64",
        ),
        (
            "cache_partition_mib = 0",
            "cache_partition_mib = 65537",
            "kiosk.toml:31: image.cache_partition_mib is 65537: write a number from 0 to 65536",
        ),
        // Keyboard, clock, session, the cache's disk.
        (
            "log = \"ttyS1\"",
            "keymap = \"German\"",
            "kiosk.toml:14: console.keymap is \"German\", which is no keyboard layout of the image: did you mean \"de\"?",
        ),
        (
            "log = \"ttyS1\"",
            "keymap = \"de(nodeadkeys)\"",
            "kiosk.toml:14: console.keymap is \"de(nodeadkeys)\", which is no keyboard layout of the image: did you mean \"de-nodeadkeys\"?",
        ),
        (
            "log = \"ttyS1\"",
            "keymap = \"de-latin1\"",
            "kiosk.toml:14: console.keymap is \"de-latin1\", which is no keyboard layout of the image: did you mean \"de\"?",
        ),
        (
            "log = \"ttyS1\"",
            "keymap = \"klingon\"",
            "kiosk.toml:14: console.keymap is \"klingon\", which is no keyboard layout of the image: `image-build keymaps` lists",
        ),
        (
            "[cache]\n",
            "[clock]\nntp = [\"ntp.example.org\", \"10.0.0\"]\n[cache]\n",
            "kiosk.toml:16: clock.ntp is \"10.0.0\": write a host, such as \"ntp.example.org\", or host:port",
        ),
        (
            "[cache]\n",
            "[session]\nlock_after_s = 5\n[cache]\n",
            "kiosk.toml:16: session.lock_after_s is 5, too short to read a screen: write 0 (never) or at least 30",
        ),
        (
            "[cache]\n",
            "[session]\nlock_after_s = 600\nsuspend_after_s = 60\n[cache]\n",
            "kiosk.toml:17: session.suspend_after_s is 60, but the screen locks only after 600: write more, or 0 for never",
        ),
        (
            "[cache]\n",
            "[session]\nlow_battery_percent = 51\n[cache]\n",
            "kiosk.toml:16: session.low_battery_percent is 51: write a number from 0 to 50",
        ),
        (
            "size_mib = 0",
            "device = \"/dev/sda3\"",
            "kiosk.toml:17: cache.device is \"/dev/sda3\": write \"boot-disk\", \"internal\" or \"PARTUUID=\" and a partition's id",
        ),
        (
            "size_mib = 0",
            "device = \"PARTUUID=1234\"",
            "kiosk.toml:17: cache.device names the partition \"1234\": write its id as `lsblk -o NAME,PARTUUID` shows it",
        ),
        (
            "kind = \"auto\"",
            "kind = \"memory\"\ndevice = \"internal\"",
            "kiosk.toml:17: cache.device names a disk that cache.kind \"memory\" never uses: leave one of the two out",
        ),
        // Boot.
        (
            "mitigations=off",
            "console=ttyS0",
            "kiosk.toml:23: boot.cmdline_extra sets console: name the terminal under [console] instead",
        ),
        (
            "mitigations=off",
            "init=/bin/sh",
            "kiosk.toml:23: boot.cmdline_extra sets init, which the image itself decides: leave it out",
        ),
        (
            "mitigations=off",
            "init_on_free=0",
            "kiosk.toml:23: boot.cmdline_extra sets init_on_free, which the wipe rests on: leave it out",
        ),
        (
            "mitigations=off",
            "init-on-free=0",
            "kiosk.toml:23: boot.cmdline_extra sets init_on_free, which the wipe rests on: leave it out",
        ),
        (
            "mitigations=off",
            "\\\"init_on_free=0\\\"",
            "kiosk.toml:23: boot.cmdline_extra holds a quotation mark: no word that a kiosk needs has one, leave it out",
        ),
        (
            "mitigations=off",
            "lockdown=none",
            "kiosk.toml:23: boot.cmdline_extra sets lockdown, which would open kernel memory, where the cache's key is: leave it out",
        ),
        (
            "mitigations=off",
            "sysctl.kernel/sysrq=1",
            "kiosk.toml:23: boot.cmdline_extra sets sysctl.kernel.sysrq, which would let anybody at the keyboard command the kernel: leave it out",
        ),
        (
            "mitigations=off",
            "resume=/dev/sda2",
            "kiosk.toml:23: boot.cmdline_extra sets resume, which would write memory to a disk: leave it out",
        ),
        (
            "mitigations=off",
            "quiet page_poison=1",
            "kiosk.toml:23: boot.cmdline_extra sets page_poison, which the wipe rests on: leave it out",
        ),
        (
            "mitigations=off",
            "slub-debug=FZ",
            "kiosk.toml:23: boot.cmdline_extra sets slub_debug, which the wipe rests on: leave it out",
        ),
        (
            "mitigations=off",
            "kfence.sample_interval=100",
            "kiosk.toml:23: boot.cmdline_extra sets kfence.sample_interval, which is not among the kernel options that a kiosk may have: leave it out; docs/images.md lists",
        ),
        (
            "cache_partition_mib = 0",
            "mirror = \"ftp://mirror.example.org/debian\"",
            "kiosk.toml:31: image.mirror is \"ftp://mirror.example.org/debian\": write http or https and a host, such as",
        ),
        (
            "cache_partition_mib = 0",
            "security_mirror = \"http://me:secret@mirror.example.org/debian-security\"",
            "kiosk.toml:31: image.security_mirror holds a user or password: leave them to apt's auth.conf",
        ),
        (
            "mitigations=off",
            "quiet ; shell",
            "kiosk.toml:23: boot.cmdline_extra holds the word \";\", which is none for the kernel or ends the line for iPXE: leave it out",
        ),
        (
            "mitigations=off",
            "a ${net0/mac}",
            "kiosk.toml:23: boot.cmdline_extra holds ${, || or &&, which mean something to iPXE: leave them out",
        ),
        (
            "mitigations=off",
            "caf\u{e9}",
            "kiosk.toml:23: boot.cmdline_extra holds 'é': write printable ASCII on one line",
        ),
        (
            "[\"iwlwifi\"]",
            "[\"iwlwifi.ko\"]",
            "kiosk.toml:25: modules.extra holds \"iwlwifi.ko\": write a kernel module's bare name, such as \"iwlwifi\"",
        ),
        (
            "load = []",
            "load = [\"a b\"]",
            "kiosk.toml:26: modules.load holds \"a b\": write a kernel module's bare name",
        ),
        (
            "firmware-iwlwifi",
            "firmware iwlwifi",
            "kiosk.toml:28: hardware.firmware holds \"firmware iwlwifi\": write a Debian package's name, such as \"firmware-iwlwifi\"",
        ),
        // Secure Boot.
        (
            "[image]",
            "[secure_boot]\nkey = \"db.key\"\n[image]",
            "kiosk.toml:29: secure_boot.cert is missing: write cert = \"db.pem\" under [secure_boot]",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"locked.key\"\ncert = \"ca.pem\"\n[image]",
            "kiosk.toml:30: secure_boot.key names locked.key, which holds a key that needs a passphrase: write it without one, with openssl pkey -in FILE -out NEW, readable by its user only",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"old-locked.key\"\ncert = \"ca.pem\"\n[image]",
            "kiosk.toml:30: secure_boot.key names old-locked.key, which holds a key that needs a passphrase: write it without one",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"ca.pem\"\ncert = \"ca.pem\"\n[image]",
            "kiosk.toml:30: secure_boot.key names ca.pem, which holds no private key in PEM: write the path of the signing key",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"two.key\"\ncert = \"ca.pem\"\n[image]",
            "kiosk.toml:30: secure_boot.key names two.key, which holds 2 private keys: keep one of them",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"key-and-glued.key\"\ncert = \"ca.pem\"\n[image]",
            "kiosk.toml:30: secure_boot.key names key-and-glued.key, which has a BEGIN or END that does not stand on a line of its own, where sbsign does not find it: put each on its own line",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"db.key\"\ncert = \"glued.pem\"\n[image]",
            "kiosk.toml:31: secure_boot.cert names glued.pem, which has a BEGIN or END that does not stand on",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"db.key\"\ncert = \"db.key\"\n[image]",
            "kiosk.toml:31: secure_boot.cert names db.key, which is not a certificate in PEM: write the path of the key's certificate",
        ),
    ];
    for (from, to, expected) in cases {
        let found = complaints(folder.path(), from, to);
        // What stands in a table that is none is missing as well.
        let found: Vec<_> =
            found.into_iter().filter(|line| !to.contains("[[") || !line.contains("missing")).collect();
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        assert!(found[0].starts_with(expected), "expected {expected}\n   found {}", found[0]);
        assert!(!found[0].contains('\n'), "{found:?}");
    }
}

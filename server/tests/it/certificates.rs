//! The recipe in docs/certificates.md, and every certificate that clients would refuse.

use crate::{
    client::Client,
    realm::HOST,
    server::{Setup, run},
};
use std::{fs, process::Command};

/// The shell commands of the recipe, for this test's server.
fn recipe() -> String {
    let page = include_str!("../../../docs/certificates.md");
    let blocks: Vec<_> =
        page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 3);
    blocks.concat().replace("parcels.example.org", HOST)
}

fn shell(setup: &Setup, script: &str) {
    let done = Command::new("sh").args(["-euc", script]).current_dir(setup.path("")).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A server with what the recipe makes.
fn by_recipe() -> Setup {
    let mut setup = Setup::new();
    shell(&setup, &recipe());
    setup.edit(
        "cert = \"cert.pem\"\nkey = \"key.pem\"",
        "cert = \"server.pem\"\nkey = \"server.key\"\nca = \"ca.pem\"",
    );
    setup.ca = fs::read_to_string(setup.path("ca.pem")).unwrap();
    setup
}

fn check(setup: &Setup) -> (i32, String) {
    setup.init_store();
    let (code, out, err) = run(&["--config", setup.config().to_str().unwrap(), "--check"]);
    (code, out + &err)
}

#[tokio::test]
async fn the_recipe_makes_what_clients_accept() {
    let setup = by_recipe();
    let (code, said) = check(&setup);
    assert_eq!(code, 0, "{said}");
    let server = setup.start();
    Client::of("shanta", &setup, &server).await.list().await;
    // With the CA appended, in the lines of Windows, behind a byte order mark and with no line between the two.
    let own = fs::read_to_string(setup.path("server.pem")).unwrap();
    let both = format!("\u{feff}{}{}", own.trim_end(), setup.ca).replace('\n', "\r\n");
    fs::write(setup.path("server.pem"), both).unwrap();
    fs::write(setup.path("ca.pem"), format!("\u{feff}Our CA\r\n{}", setup.ca.trim_end())).unwrap();
    drop(server);
    let (code, said) = check(&setup);
    assert_eq!(code, 0, "{said}");
    let server = setup.start();
    Client::of("shanta", &setup, &server).await.list().await;
}

#[test]
fn every_certificate_that_clients_refuse_is_named() {
    let key = |options: &str| format!("openssl genpkey {options} -out server.key; ");
    let ec = |curve: &str| key(&format!("-algorithm EC -pkeyopt ec_paramgen_curve:{curve}"));
    let sign = "openssl req -new -key server.key -subj /CN=x -out server.csr; \
                openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 30 -extfile server.ext -out server.pem; ";
    let cases = [
        (format!("sed -i /subjectAlt/d server.ext; {sign}"), "tls.cert: the certificate has no subject alternative name"),
        (format!("sed -i s/DNS:.*/DNS:other.test/ server.ext; {sign}"), "tls.cert: the certificate is for other.test, and the service is on parcels."),
        (format!("sed -i s/DNS:.*/IP:192.0.2.1/ server.ext; {sign}"), "tls.cert: the certificate is for no host"),
        (format!("sed -i s/serverAuth/clientAuth/ server.ext; {sign}"), "tls.cert: the certificate is not for servers"),
        (format!("sed -i 's/CA:FALSE/CA:TRUE/; s/digitalS.*/keyCertSign/' server.ext; {sign}"), "is a CA's, which clients take for no server"),
        ("cp ca.pem server.pem; cp ca.key server.key".to_owned(), "is a CA's, which clients take for no server"),
        ("cat ca.pem server.pem > x; mv x server.pem".to_owned(), "tls.cert: the chain is in the wrong order"),
        ("cp server.pem x; cat x >> server.pem".to_owned(), "did not sign the one before it"),
        (ec("P-521") + sign, "tls.cert: the key is on the curve P-521"),
        (key("-algorithm RSA -pkeyopt rsa_keygen_bits:1024") + sign, "tls.cert: the key is RSA of 1024 bits"),
        (ec("P-256"), "tls.key: the key is not that of the first certificate"),
        ("openssl pkey -in server.key -aes256 -passout pass:secret -out x; mv x server.key".to_owned(), "tls.key: "),
        ("openssl x509 -in server.pem -outform DER -out x; mv x server.pem".to_owned(), "is a certificate in DER"),
        ("head -c 400 server.pem > x; cat ca.pem >> x; mv x server.pem".to_owned(), "begins in line 1 is damaged"),
        ("cat server.key > server.pem".to_owned(), "tls.cert: "),
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout x -subj /CN=other -out ca.pem".to_owned(),
            "the CA that clients trust did not sign it",
        ),
    ];
    for (script, said) in cases {
        let setup = by_recipe();
        shell(&setup, &format!("{script}\nchmod 600 server.key"));
        let (code, answer) = check(&setup);
        assert_eq!(code, 2, "{script}: {answer}");
        assert!(answer.contains(said) && answer.contains("; "), "{script}: {answer} lacks {said}");
        assert_eq!(answer.trim_end().lines().count(), 1, "{answer}");
    }
}

#[test]
fn a_certificate_out_of_its_time_fails_the_check_and_not_the_start() {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(ca, ca_key);
    for (from, to, said) in [(2020, 2021, "has expired on "), (2090, 2091, "does not hold before ")] {
        let setup = Setup::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut own = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        own.not_before = rcgen::date_time_ymd(from, 1, 1);
        own.not_after = rcgen::date_time_ymd(to, 1, 1);
        fs::write(setup.path("cert.pem"), own.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(setup.path("key.pem"), key.serialize_pem()).unwrap();
        let (code, answer) = check(&setup);
        assert_eq!(code, 2, "{answer}");
        assert!(answer.contains("tls.cert: the certificate of ") && answer.contains(said), "{answer}");
        drop(setup.start());
    }
}

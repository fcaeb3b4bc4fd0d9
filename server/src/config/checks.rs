//! The checks: of values by themselves, and of the files that they name.

use super::{Config, ConfigError, Limits, Place, Raw, RawQuota};
use crate::{
    auth::{is_principal, keytab, names::Realms, token::TokenKey},
    quota::{Quota, Quotas, Right},
    serve,
    store::local,
};
use rustls::pki_types::UnixTime;
use std::{
    ffi::OsString,
    fs::Metadata,
    io::ErrorKind,
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::Spanned;

/// Largest quota: a list of more parcels helps nobody.
const MAX_PARCELS: u64 = 100_000;

pub(super) fn values(raw: &Raw, place: &Place<'_>) -> Result<Config, ConfigError> {
    let folder = place.file.parent().unwrap_or(Path::new(""));
    let path = |key: &str, value: &Spanned<PathBuf>| {
        if value.get_ref().as_os_str().is_empty() {
            return Err(place.mistake(key, value, "the path is empty", "write a path"));
        }
        Ok(folder.join(value.get_ref()))
    };
    let listen = raw.listen.get_ref().parse().map_err(|_| {
        let what = format!("{:?} is not an address with a port", raw.listen.get_ref());
        place.mistake("listen", &raw.listen, what, r#"write it as "0.0.0.0:8443" or "[::]:8443""#)
    })?;
    service(raw, place)?;
    for admin in &raw.admins {
        if !is_principal(admin.get_ref()) {
            let what = format!("{:?} is not a Kerberos principal", admin.get_ref());
            return Err(place.mistake(
                "admins",
                admin,
                what,
                r#"write it with its realm, as "it@EXAMPLE.ORG""#,
            ));
        }
    }
    let realms = realms(raw, place)?;
    let store = path("store", &raw.store)?;
    let beside = |suffix: &str| {
        let mut name = OsString::from(store.components().as_path());
        name.push(suffix);
        PathBuf::from(name)
    };
    let optional =
        |key: &str, value: &Option<Spanned<PathBuf>>| value.as_ref().map(|v| path(key, v)).transpose();
    Ok(Config {
        file: place.file.to_owned(),
        listen,
        service: raw.service.get_ref().clone(),
        keytab: path("keytab", &raw.keytab)?,
        admins: raw.admins.iter().map(|admin| realms.canonical(admin.get_ref())).collect(),
        quotas: quotas(raw, &realms, place)?,
        realms,
        tls_cert: path("tls.cert", &raw.tls.cert)?,
        tls_key: path("tls.key", &raw.tls.key)?,
        tls_ca: optional("tls.ca", &raw.tls.ca)?,
        token_key_file: optional("token_key_file", &raw.token_key_file)?
            .unwrap_or_else(|| beside(".token-key")),
        replay_cache: optional("replay_cache", &raw.replay_cache)?.unwrap_or_else(|| beside(".replay-cache")),
        witness: optional("witness", &raw.witness)?.unwrap_or_else(|| beside(".witness")),
        ready_file: optional("ready_file", &raw.ready_file)?,
        limits: limits(raw, place)?,
        store,
    })
}

fn service(raw: &Raw, place: &Place<'_>) -> Result<(), ConfigError> {
    let text = raw.service.get_ref();
    let name = text.split_once('@').map_or(text.as_str(), |(name, _)| name);
    let host = name.strip_prefix("HTTP/").unwrap_or_default();
    let realm = !text.contains('@') || is_principal(text);
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') || !realm {
        let what = format!("{text:?} is not the principal of an HTTP service");
        let remedy = r#"write it as "HTTP/parcels.example.org", with the host's name in the URL"#;
        return Err(place.mistake("service", &raw.service, what, remedy));
    }
    Ok(())
}

fn realms(raw: &Raw, place: &Place<'_>) -> Result<Realms, ConfigError> {
    for realm in &raw.case_insensitive_realms {
        if !is_principal(&format!("x@{}", realm.get_ref())) {
            let what = format!("{:?} is not a Kerberos realm", realm.get_ref());
            let remedy = r#"write its name only, as "EXAMPLE.ORG""#;
            return Err(place.mistake("case_insensitive_realms", realm, what, remedy));
        }
    }
    Ok(Realms::insensitive(raw.case_insensitive_realms.iter().map(|realm| realm.get_ref().clone())))
}

fn quotas(raw: &Raw, realms: &Realms, place: &Place<'_>) -> Result<Quotas, ConfigError> {
    let quota = |quota: &RawQuota| {
        for owner in &quota.owners {
            if owner.get_ref() != "*" && !is_principal(owner.get_ref()) {
                let what = format!("{:?} fits no Kerberos principal", owner.get_ref());
                let remedy =
                    r#"write a principal with its realm, as "shanta@EXAMPLE.ORG" or "*@EXAMPLE.ORG""#;
                return Err(place.mistake("quota.owners", owner, what, remedy));
            }
        }
        let parcels = *quota.parcels.get_ref();
        if parcels > MAX_PARCELS {
            let remedy = format!("write a number from 0 to {MAX_PARCELS}");
            return Err(place.mistake(
                "quota.parcels",
                &quota.parcels,
                "the number is out of range",
                &remedy,
            ));
        }
        Ok(Quota {
            owners: quota.owners.iter().map(|owner| realms.canonical(owner.get_ref())).collect(),
            right: Right { create: quota.create.unwrap_or(true), parcels },
        })
    };
    raw.quota.iter().map(quota).collect::<Result<_, _>>().map(Quotas::new)
}

fn limits(raw: &Raw, place: &Place<'_>) -> Result<Limits, ConfigError> {
    let within =
        |key: &str, value: &Option<Spanned<u64>>, default: u64, range: RangeInclusive<u64>| match value {
            None => Ok(default),
            Some(value) if range.contains(value.get_ref()) => Ok(*value.get_ref()),
            Some(value) => {
                let what = format!("{} is out of range", value.get_ref());
                let remedy = format!("write a number from {} to {}", range.start(), range.end());
                Err(place.mistake(key, value, what, &remedy))
            }
        };
    let default = Limits::default();
    let seconds = |key: &str, value: &Option<Spanned<u64>>, default: Duration, range| {
        within(key, value, default.as_secs(), range).map(Duration::from_secs)
    };
    let own = &raw.limits;
    // A server that refused a whole chunk or leaf could hold no parcel.
    let least = parcel::MAX_OBJECT as u64 / 4;
    let object = within(
        "limits.max_object_bytes",
        &own.max_object_bytes,
        parcel::MAX_OBJECT as u64,
        least..=parcel::MAX_OBJECT as u64,
    )?;
    let count = |key: &str, value: &Option<Spanned<u64>>, default: usize, range| {
        within(key, value, default as u64, range).map(|count| count as usize)
    };
    Ok(Limits {
        token_lifetime: seconds(
            "limits.token_lifetime_s",
            &own.token_lifetime_s,
            default.token_lifetime,
            60..=604_800,
        )?,
        max_object_bytes: object as usize,
        idle_timeout: seconds("limits.idle_timeout_s", &own.idle_timeout_s, default.idle_timeout, 1..=3600)?,
        shutdown: seconds("limits.shutdown_s", &own.shutdown_s, default.shutdown, 0..=3600)?,
        connections: count("limits.connections", &own.connections, default.connections, 64..=65_536)?,
        connections_per_principal: count(
            "limits.connections_per_principal",
            &own.connections_per_principal,
            default.connections_per_principal,
            8..=65_536,
        )?,
        memory_bytes: count("limits.memory_mib", &own.memory_mib, default.memory_bytes >> 20, 64..=65_536)?
            << 20,
    })
}

pub(super) fn files(config: &Config, place: &Place<'_>) -> Result<(), ConfigError> {
    key_file(&config.keytab, 0o077, "keytab", place)?;
    keys_of_service(config, place)?;
    key_file(&config.tls_key, 0o007, "tls.key", place)?;
    certificate(config, place, false)?;
    serve::tls(config).map_err(|(key, what, remedy)| place.in_file(key, what, &remedy))?;
    if config.token_key_file.exists() {
        TokenKey::load(&config.token_key_file).map_err(|e| {
            place.in_file("token_key_file", "the key that signs log-ins cannot be used", &e.to_string())
        })?;
    }
    if let Some(ready) = &config.ready_file {
        folder_of(ready, "ready_file", place)?;
    }
    folder_of(&config.token_key_file, "token_key_file", place)?;
    folder_of(&config.replay_cache, "replay_cache", place)?;
    folder_of(&config.witness, "witness", place)?;
    store(config, place)
}

/// The server's certificate, as clients judge it; `now`: by the clock, too.
pub(super) fn certificate(config: &Config, place: &Place<'_>, now: bool) -> Result<(), ConfigError> {
    let (chain, key) =
        serve::certificate(config).map_err(|(key, what, remedy)| place.in_file(key, what, &remedy))?;
    let of_ca = |path: &Path, e: String| {
        let (what, remedy) = e.split_once("; ").unwrap_or((&e, "give what kiosks have as server.ca"));
        place.in_file("tls.ca", format!("{} {what}", path.display()), remedy)
    };
    let roots = config.tls_ca.as_ref().map(|path| {
        let bytes = std::fs::read(path).map_err(|e| of_ca(path, format!("cannot be read ({e})")))?;
        tls::trust::roots(&bytes).map_err(|e| of_ca(path, e.to_string()))
    });
    let service = config.service.split_once('@').map_or(config.service.as_str(), |(name, _)| name);
    let host = service.strip_prefix("HTTP/").unwrap_or(service);
    match tls::server::judge(&chain, key, host, UnixTime::now(), roots.transpose()?) {
        Err(fault) if now || !fault.of_time => {
            let key = if fault.of_key { "tls.key" } else { "tls.cert" };
            Err(place.in_file(key, fault.what, fault.remedy))
        }
        _ => Ok(()),
    }
}

/// A file with a secret in it: there, a file, and not open to those in `forbidden` mode bits.
fn key_file(path: &Path, forbidden: u32, key: &str, place: &Place<'_>) -> Result<(), ConfigError> {
    let found = metadata(path, key, place)?;
    if !found.is_file() {
        return Err(place.in_file(
            key,
            format!("{} is not a file", path.display()),
            "give the path of the file",
        ));
    }
    let open = found.permissions().mode() & forbidden;
    if open != 0 {
        let what = format!("{} holds a secret and others than its owner may read it", path.display());
        return Err(place.in_file(key, what, &format!("run chmod 600 {}", path.display())));
    }
    Ok(())
}

fn keys_of_service(config: &Config, place: &Place<'_>) -> Result<(), ConfigError> {
    let path = config.keytab.display();
    let bytes = std::fs::read(&config.keytab).map_err(|e| {
        place.in_file("keytab", format!("{path}: {e}"), "let the user that runs the server read it")
    })?;
    let found = keytab::principals(&bytes)
        .map_err(|e| place.in_file("keytab", format!("{path} is {e}"), "make one with kadmin's ktadd"))?;
    if !found.iter().any(|principal| keytab::is_service(&config.service, principal)) {
        let holds =
            if found.is_empty() { "is empty".to_owned() } else { format!("holds only {}", found.join(", ")) };
        let what = format!("{path} {holds}, and no key of {}", config.service);
        return Err(place.in_file("keytab", what, "add it with kadmin's ktadd, or correct service"));
    }
    Ok(())
}

fn folder_of(path: &Path, key: &str, place: &Place<'_>) -> Result<(), ConfigError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        let what = format!("there is no folder {} to put {} in", folder.display(), path.display());
        return Err(place.in_file(key, what, "make the folder, or choose another path"));
    }
    Ok(())
}

fn store(config: &Config, place: &Place<'_>) -> Result<(), ConfigError> {
    let path = &config.store;
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            let what = format!("{} is not a directory", path.display());
            Err(place.in_file("store", what, "give the directory of the store"))
        }
        Err(e) if e.kind() != ErrorKind::NotFound => {
            let what = format!("{}: {e}", path.display());
            Err(place.in_file("store", what, "let the user that runs the server use it"))
        }
        _ => local::look(path, &config.witness).map(drop).map_err(|e| {
            let text = e.to_string();
            let (what, remedy) = text.split_once("; ").unwrap_or((&text, "give another directory"));
            place.in_file("store", what, remedy)
        }),
    }
}

fn metadata(path: &Path, key: &str, place: &Place<'_>) -> Result<Metadata, ConfigError> {
    std::fs::metadata(path).map_err(|e| {
        place.in_file(
            key,
            format!("{}: {e}", path.display()),
            "give the path of a file that this user may read",
        )
    })
}

//! What single values must look like. Each check answers with the value as it is used, or the rest of a sentence that
//! starts with the key's name.

use super::reader::nearest;
use crate::keymaps::SHIPPED;
use parcel::wire::kiosk::{CacheDevice, CacheKind};
use std::net::{IpAddr, SocketAddr};

pub(super) fn kiosk_name(name: &str) -> Result<String, String> {
    let good = !name.is_empty()
        && name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good {
        Ok(name.to_owned())
    } else {
        Err(format!("is {name:?}: write 1 to 63 letters, digits and inner dashes, or leave it out"))
    }
}

pub(super) fn title(title: &str) -> Result<String, String> {
    if title.chars().any(char::is_control) {
        return Err("holds a control character, which would break the screen: write plain text".to_owned());
    }
    match title.chars().count() {
        1..=60 => Ok(title.to_owned()),
        0 => Err("is empty: write the words for the top of the login screen or leave the key out".to_owned()),
        long => Err(format!("has {long} characters: the screen has room for 60, shorten it")),
    }
}

pub(super) fn realm(name: &str) -> Result<String, String> {
    match host_name(&name.to_ascii_lowercase()) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err(format!("is {name:?}, not a realm: write something like \"EXAMPLE.ORG\"")),
    }
}

/// A KDC proxy's URL.
pub(super) fn kdc_proxy(text: &str) -> Result<String, String> {
    let example = "\"https://kdcproxy.example.org/KdcProxy\"";
    match url::Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.username().is_empty() && url.password().is_none() => {
            Ok(url.to_string())
        }
        _ => Err(format!("is {text:?}: write an https URL such as {example}")),
    }
}

/// A host name as DNS allows it, lower case.
pub(super) fn host_name(name: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "names {name:?}, not a host name: write lower-case labels with dots, such as \"parcels.example.org\""
        ))
    }
}

pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let bad = || format!("is {text:?}: write host:port, such as \"kdc1.example.org:88\"");
    if text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return Ok(text.to_owned());
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    // DNS does not distinguish capitals.
    host_name(&host.to_ascii_lowercase()).map_err(|_| bad())?;
    // A number-like host that is no address is a mistyped address.
    if host.split('.').all(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
        && host.parse::<IpAddr>().is_err()
    {
        return Err(bad());
    }
    match port.parse::<u16>() {
        Ok(1..) if port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(text.to_ascii_lowercase()),
        _ => Err(bad()),
    }
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("is {text:?}, not an IP address: write one such as \"192.0.2.10\""))
}

pub(super) fn server_url(text: &str) -> Result<String, String> {
    let example = "\"https://parcels.example.org\"";
    let url = url::Url::parse(text)
        .map_err(|error| format!("is {text:?}, not a URL ({error}): write one such as {example}"))?;
    match url.scheme() {
        "https" => {}
        "http" => {
            let better = text.replacen("http:", "https:", 1);
            return Err(format!(
                "is http, which would send tickets and tokens in the clear: write {better:?}"
            ));
        }
        other => return Err(format!("has the scheme {other:?}: write one such as {example}")),
    }
    let host = match url.host() {
        Some(url::Host::Domain(name)) => host_name(name).map_err(|_| {
            format!("is {text:?}, whose host is not a host name: write one such as {example}")
        })?,
        _ => {
            return Err(
                "names an address, but Kerberos tickets are for names: write a host name and, if it is not in DNS, its address under [hosts]"
                    .to_owned(),
            );
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password, which would lie open in the image: leave them out".to_owned());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("has something after the host ({text:?}): write only https, host and port"));
    }
    // Written anew: the parser forgives capitals, spaces and missing slashes, which those who read this later may not.
    match url.port() {
        Some(0) => Err(format!("has port 0 ({text:?}), where nothing can listen: write the server's port")),
        Some(port) => Ok(format!("https://{host}:{port}")),
        None => Ok(format!("https://{host}")),
    }
}

/// An archive of Debian packages. Plain http is fine: apt checks Debian's signatures.
pub(super) fn mirror(text: &str) -> Result<String, String> {
    let example = "\"http://deb.debian.org/debian\"";
    let url = url::Url::parse(text)
        .map_err(|error| format!("is {text:?}, not a URL ({error}): write one such as {example}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("is {text:?}: write http or https and a host, such as {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password: leave them to apt's auth.conf on this machine".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("has a ? or # in it ({text:?}): write the archive's folder, such as {example}"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

pub(super) fn terminal(name: &str) -> Result<String, String> {
    let numbered = |prefix: &str, most: u32| {
        name.strip_prefix(prefix).is_some_and(|digits| {
            !digits.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits == "0" || !digits.starts_with('0'))
                && digits.parse::<u32>().is_ok_and(|number| number <= most)
        })
    };
    // Of the virtual consoles the kiosk shows the first and locks switching, so nobody would see another.
    if name == "tty1" || numbered("ttyS", 31) || numbered("hvc", 7) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "is {name:?}, not a terminal: write tty1 for screen and keyboard or ttyS0 for the first serial port"
        ))
    }
}

/// A keyboard layout that the image carries.
pub(super) fn keymap(name: &str) -> Result<String, String> {
    let known: Vec<&str> = SHIPPED.iter().map(|shipped| shipped.name).collect();
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    // People think of the language, of X's "layout(variant)", or of the maps of old distributions.
    let plain = name.trim().to_lowercase().replace(['(', '_', ' '], "-").replace(')', "");
    let by_title = SHIPPED.iter().find(|shipped| shipped.title.to_lowercase() == name.trim().to_lowercase());
    let related = || plain.split('-').next().filter(|first| known.contains(first));
    let near = known
        .iter()
        .copied()
        .find(|known| *known == plain)
        .or(by_title.map(|shipped| shipped.name))
        .or_else(related)
        .or_else(|| nearest(&plain, &known));
    Err(match near {
        Some(near) => {
            format!("is {name:?}, which is no keyboard layout of the image: did you mean \"{near}\"?")
        }
        None => format!(
            "is {name:?}, which is no keyboard layout of the image: `image-build keymaps` lists those that there are"
        ),
    })
}

/// `host` or `host:port`.
pub(super) fn host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() || host_and_port(text).is_ok() {
        return Ok(text.to_owned());
    }
    let numbers = text.split('.').all(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    match host_name(text) {
        Ok(name) if !numbers => Ok(name),
        _ => Err(format!("is {text:?}: write a host, such as \"ntp.example.org\", or host:port")),
    }
}

pub(super) fn cache_device(text: &str) -> Result<CacheDevice, String> {
    match text {
        "boot-disk" => return Ok(CacheDevice::BootDisk),
        "internal" => return Ok(CacheDevice::Internal),
        _ => {}
    }
    let hex =
        |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_id = |id: &str| {
        let parts: Vec<&str> = id.split('-').collect();
        parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| hex(part, length))
    };
    match text.split_once('=') {
        Some(("PARTUUID", id)) if is_id(id) => Ok(CacheDevice::Partuuid(id.to_ascii_lowercase())),
        Some(("PARTUUID", id)) => Err(format!(
            "names the partition {id:?}: write its id as `lsblk -o NAME,PARTUUID` shows it, 32 hexadecimal digits with dashes"
        )),
        _ => Err(format!(
            "is {text:?}: write \"boot-disk\", \"internal\" or \"PARTUUID=\" and a partition's id"
        )),
    }
}

pub(super) fn cache_kind(name: &str) -> Result<CacheKind, String> {
    match name {
        "memory" => Ok(CacheKind::Memory),
        "disk" => Ok(CacheKind::Disk),
        "auto" => Ok(CacheKind::Auto),
        _ => Err(format!("is {name:?}: write \"memory\", \"disk\" or \"auto\"")),
    }
}

/// Words for the kernel: printable ASCII, since they also stand in an iPXE script, which has its own meaning for `${`.
pub(super) fn cmdline(text: &str) -> Result<String, String> {
    if text.len() > 1024 {
        return Err(format!(
            "has {} bytes: the kernel reads about 2000 in all, keep it under 1024",
            text.len()
        ));
    }
    if let Some(bad) = text.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(format!("holds {bad:?}: write printable ASCII on one line"));
    }
    if text.contains("${") || text.contains("||") || text.contains("&&") {
        return Err("holds ${, || or &&, which mean something to iPXE: leave them out".to_owned());
    }
    // The kernel drops quotes around a word, so they could hide one from what follows.
    if text.contains('"') {
        return Err("holds a quotation mark: no word that a kiosk needs has one, leave it out".to_owned());
    }
    for word in text.split_whitespace() {
        if matches!(word, ";" | "--") || word.starts_with('#') {
            return Err(format!(
                "holds the word {word:?}, which is none for the kernel or ends the line for iPXE: leave it out"
            ));
        }
        parcel::kernel::allow(word).map_err(|refusal| refusal.to_string())?;
    }
    Ok(text.trim().to_owned())
}

pub(super) fn module_name(name: &str) -> Result<String, String> {
    let good = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if good && !name.ends_with(".ko") {
        Ok(name.to_owned())
    } else {
        Err(format!("holds {name:?}: write a kernel module's bare name, such as \"iwlwifi\""))
    }
}

pub(super) fn package_name(name: &str) -> Result<String, String> {
    let good = name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    if good {
        Ok(name.to_owned())
    } else {
        Err(format!("holds {name:?}: write a Debian package's name, such as \"firmware-iwlwifi\""))
    }
}

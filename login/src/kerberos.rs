//! Password or credential cache → ticket → SPNEGO → bearer token.
//!
//! Nothing is unlocked on a Kerberos success alone: a rogue KDC can accept any password, but it cannot make a ticket that
//! the parcel server accepts.

use crate::{
    LoginError, Network,
    error::{About, SVC_UNAVAILABLE},
    krb5::{Ask, Cache, Carrier, Library, Stop},
    site,
    spnego::{base64, spnego},
};
use client::api::Api;
use libgssapi::{
    context::{ClientCtx, CtxFlags},
    credential::{Cred, CredUsage},
    error::Error as GssError,
    name::Name,
    oid::{GSS_MECH_KRB5, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL, OidSet},
};
use parcel::wire::http::SessionReply;
use std::{sync::Arc, time::Duration};
use tokio::{runtime::Handle, sync::oneshot};
use zeroize::Zeroizing;

/// How long GSSAPI may take where it asks a KDC itself, which libkrb5 does without a time-out of its own.
const PATIENCE: Duration = Duration::from_secs(15);

/// The ticket that `kinit` left in the default credential cache.
pub struct Credential {
    cred: Cred,
    principal: String,
}

/// A log-in's result.
type Result<T> = std::result::Result<T, LoginError>;

/// Runs blocking calls on a thread of their own.
async fn on_a_thread<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("kerberos".into())
        .spawn(move || drop(done.send(call())))
        .map_err(|error| LoginError::Other(error.to_string()))?;
    result.await.unwrap_or_else(|_| Err(LoginError::Other("the Kerberos library failed".into())))
}

fn kerberos_only() -> std::result::Result<OidSet, GssError> {
    let mut mechanisms = OidSet::new();
    mechanisms.add(GSS_MECH_KRB5)?;
    Ok(mechanisms)
}

/// Logs in to the realm and to the parcel server with a typed name and password; `api` uses the bearer token from then on.
/// It costs one exchange about the password; the tickets are in memory, and gone by the time this returns. Whoever drops
/// the future ends the attempt.
pub async fn with_password(
    network: &Arc<Network>,
    api: &Api,
    typed: &str,
    password: Zeroizing<String>,
) -> Result<SessionReply> {
    let realm = network.realm();
    let user = site::user(realm, typed)?;
    if password.is_empty() || password.contains('\0') {
        return Err(LoginError::Denied);
    }
    let service = format!("HTTP/{}@{}", api.host(), realm.name);
    let (network, runtime) = (network.clone(), Handle::current());
    let (alive, mut given_up) = oneshot::channel::<()>();
    let token = on_a_thread(move || {
        let mut carry = |realm: &str, message: Vec<u8>| {
            runtime.block_on(async {
                tokio::select! {
                    answer = network.ask(realm, message) => answer,
                    _ = &mut given_up => Err(LoginError::Other("the log-in was cancelled".into())),
                }
            })
        };
        token(&network, &user, &password, &service, &mut carry)
    })
    .await?;
    drop(alive);
    let reply = api.session(&token).await?;
    api.set_token(reply.token.clone().into_text());
    Ok(reply)
}

/// The first SPNEGO token for `service`, as HTTP carries it.
fn token(
    network: &Network,
    user: &site::User,
    password: &Zeroizing<String>,
    service: &str,
    carry: Carrier<'_, LoginError>,
) -> Result<Zeroizing<String>> {
    let about = About { realm: user.realm.clone(), service: service.to_owned() };
    let stopped = |stop| match stop {
        Stop::Network(error) => error,
        Stop::Library(failure) => about.library(failure),
    };
    let site = network.realm();
    let profile = site::profile(site, network.kdc_ca());
    let library = Library::configured(&profile).map_err(|failure| about.library(failure))?;
    let armor = match site.fast {
        true => Some(armor(&library, &user.realm, carry)?),
        false => None,
    };
    let ask = Ask {
        name: &user.name,
        enterprise: user.enterprise,
        canonicalize: user.enterprise || site.case_insensitive,
        armor: armor.as_ref(),
        password: Some(password),
    };
    let cache = library.first_ticket(&ask, carry).map_err(stopped)?;
    library.service_ticket(&cache, service, carry).map_err(stopped)?;
    let cred = cache.gss().map_err(|failure| about.library(failure))?;
    let step = || {
        let target = Name::new(service.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))?;
        let flags = CtxFlags::GSS_C_MUTUAL_FLAG;
        ClientCtx::new(Some(cred), target, flags, Some(GSS_MECH_KRB5)).step(None, None)
    };
    let token = step().map_err(|error| about.gss(error))?;
    Ok(base64(&token.map(|token| spnego(&token)).unwrap_or_default()))
}

/// A ticket for nobody, from a KDC whose certificate is from the site's CA: what goes under it, only that KDC can read.
fn armor(library: &Library, realm: &str, carry: Carrier<'_, LoginError>) -> Result<Cache> {
    let name = format!("WELLKNOWN/ANONYMOUS@{realm}");
    let ask = Ask { name: &name, enterprise: false, canonicalize: false, armor: None, password: None };
    library.first_ticket(&ask, carry).map_err(|stop| match stop {
        Stop::Network(error) => error,
        Stop::Library(failure) if failure.offset() == SVC_UNAVAILABLE => {
            LoginError::KdcUnavailable { realm: realm.to_owned() }
        }
        Stop::Library(failure) => LoginError::NoArmor { realm: realm.to_owned(), cause: failure.message },
    })
}

/// Runs GSSAPI where it may ask a KDC itself.
async fn bounded<T: Send + 'static>(
    about: &About,
    call: impl FnOnce() -> std::result::Result<T, GssError> + Send + 'static,
) -> Result<T> {
    let words = about.clone();
    let call = on_a_thread(move || call().map_err(|error| words.gss(error)));
    let late = || LoginError::KdcUnreachable { realm: about.realm.clone() };
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(late()))
}

/// The ticket that `kinit` left in the default credential cache: in the primary one, where that is a collection.
pub async fn from_default_cache() -> Result<Credential> {
    acquired(None).await
}

/// The ticket of `principal` in the default credential cache, in whichever one of a collection.
pub async fn from_default_cache_of(principal: &str) -> Result<Credential> {
    acquired(Some(principal.to_owned())).await
}

async fn acquired(principal: Option<String>) -> Result<Credential> {
    let about = About { realm: "of your ticket".into(), service: String::new() };
    let (cred, principal) = bounded(&about, move || {
        let name =
            principal.map(|name| Name::new(name.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))).transpose()?;
        let cred = Cred::acquire(name.as_ref(), None, CredUsage::Initiate, Some(&kerberos_only()?))?;
        cred.lifetime()?;
        let name = cred.name()?.to_string();
        Ok((cred, name))
    })
    .await?;
    Ok(Credential { cred, principal })
}

impl Credential {
    /// Whose ticket it is, as `name@REALM`.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// Logs in to the parcel server: one SPNEGO token for a bearer token, which `api` uses from then on.
    pub async fn negotiate(&self, api: &Api) -> Result<SessionReply> {
        let service = format!("HTTP@{}", api.host());
        let realm = self.principal.rsplit_once('@').map_or("", |(_, realm)| realm);
        let about = About { realm: realm.to_owned(), service: format!("HTTP/{}@{realm}", api.host()) };
        let cred = self.cred.clone();
        let token = bounded(&about, move || {
            let target = Name::new(service.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE))?;
            let flags = CtxFlags::GSS_C_MUTUAL_FLAG;
            let mut context = ClientCtx::new(Some(cred), target, flags, Some(GSS_MECH_KRB5));
            context.step(None, None)
        })
        .await?;
        let token = token.map(|token| spnego(&token)).unwrap_or_default();
        let reply = api.session(&base64(&token)).await?;
        api.set_token(reply.token.clone().into_text());
        Ok(reply)
    }
}

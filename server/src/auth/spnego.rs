//! The acceptor's side of SPNEGO (RFC 4559), in one leg.
//!
//! Kerberos needs one token each way, so a context lives only as long as the call that makes it, and replicas share
//! nothing. A client whose first guess is another mechanism would need more legs and is refused.

use super::{is_principal, keytab};
use libgssapi::{
    context::{CtxFlags, SecurityContext, ServerCtx},
    credential::Cred,
    error::Error as GssError,
};
use std::{ffi::CString, os::unix::ffi::OsStrExt, path::Path, ptr, sync::Arc};

/// What Kerberos adds to a ticket's lifetime on the acceptor's side, in seconds: libkrb5's default `clockskew`.
/// A token must not outlive the ticket by this grace.
const CLOCK_SKEW: u64 = 300;
/// Longest SPNEGO token that is looked at, in bytes; tickets of large directories with many groups reach 64 KiB.
pub const MAX_TICKET: usize = 96 * 1024;

/// Takes tickets for one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Acceptor {
    inner: Arc<Inner>,
}

struct Inner {
    cred: Cred,
    service: String,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("service", &self.service).finish_non_exhaustive()
    }
}

/// Who showed a ticket.
#[derive(Debug)]
pub struct Accepted {
    /// `user@REALM`.
    pub principal: String,
    /// Seconds that the ticket has left.
    pub lifetime: u64,
    /// What the client needs to be sure of the server, if it asked.
    pub reply: Option<Vec<u8>>,
}

/// A ticket that was not accepted; the text is for the client.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Kerberos says no.
    #[error("Kerberos does not accept the ticket: {0}")]
    Refused(String),
    /// More than one leg.
    #[error(
        "the log-in would take more than one round trip; only Kerberos is offered here, so get a ticket with kinit first"
    )]
    MoreLegs,
    /// For another service.
    #[error("the ticket is for {0}, not for this server's service {1}")]
    OtherService(String, String),
    /// Anonymous or without a usable name.
    #[error("the ticket does not name a person")]
    NoName,
    /// Its time is over; Kerberos would still let it pass within the clock skew.
    #[error("the ticket's time is over; get a new one")]
    Over,
}

impl From<GssError> for TicketError {
    fn from(e: GssError) -> Self {
        Self::Refused(e.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl Acceptor {
    /// An acceptor with the keys of `keytab`, which remembers tickets it has seen in the file `replay_cache`.
    ///
    /// # Errors
    /// Kerberos cannot use the keytab.
    pub fn new(keytab: &Path, replay_cache: &Path, service: &str) -> Result<Self, String> {
        let text = |prefix: &str, path: &Path| {
            CString::new([prefix.as_bytes(), path.as_os_str().as_bytes()].concat()).map_err(|e| e.to_string())
        };
        let cred =
            acquire(&text("FILE:", keytab)?, &text("file2:", replay_cache)?).map_err(|e| e.to_string())?;
        Ok(Self { inner: Arc::new(Inner { cred, service: service.to_owned() }) })
    }

    /// Takes one ticket. Blocks: reads the keytab, and syncs the replay cache.
    ///
    /// # Errors
    /// See [`TicketError`].
    pub fn accept(&self, token: &[u8]) -> Result<Accepted, TicketError> {
        let mut context = ServerCtx::new(Some(self.inner.cred.clone()));
        let reply = context.step(token, None)?.map(|reply| reply.to_vec());
        if !context.is_complete() {
            return Err(TicketError::MoreLegs);
        }
        let target = context.target_name()?.display_name()?;
        let target = String::from_utf8_lossy(&target);
        if !keytab::is_service(&self.inner.service, &target) {
            return Err(TicketError::OtherService(target.into_owned(), self.inner.service.clone()));
        }
        if context.flags()?.contains(CtxFlags::GSS_C_ANON_FLAG) {
            return Err(TicketError::NoName);
        }
        let name = context.source_name()?.display_name()?;
        let principal = std::str::from_utf8(&name).map_err(|_| TicketError::NoName)?.to_owned();
        if !is_principal(&principal) {
            return Err(TicketError::NoName);
        }
        let lifetime = context.lifetime()?.as_secs().saturating_sub(CLOCK_SKEW);
        if lifetime == 0 {
            return Err(TicketError::Over);
        }
        Ok(Accepted { principal, lifetime, reply })
    }
}

/// Acceptor credentials for whatever the keytab holds; which service a ticket is for is checked when it is there.
fn acquire(keytab: &CString, replay_cache: &CString) -> Result<Cred, GssError> {
    use libgssapi_sys as sys;
    let mut elements = [
        sys::gss_key_value_element_desc { key: c"keytab".as_ptr(), value: keytab.as_ptr() },
        sys::gss_key_value_element_desc { key: c"rcache".as_ptr(), value: replay_cache.as_ptr() },
    ];
    let store = sys::gss_key_value_set_desc { count: elements.len() as u32, elements: elements.as_mut_ptr() };
    let mut minor = 0;
    let mut cred: sys::gss_cred_id_t = ptr::null_mut();
    // SAFETY: `store` and the strings it points to live until the call returns, and it copies what it keeps; a null
    // name means any principal of the keytab, a null mechanism set the default ones; `minor` and `cred` are valid
    // places to write to, and null is allowed for the two outputs that are not wanted.
    let major = unsafe {
        sys::gss_acquire_cred_from(
            &mut minor,
            ptr::null_mut(),
            sys::_GSS_C_INDEFINITE,
            ptr::null_mut(),
            sys::GSS_C_ACCEPT as sys::gss_cred_usage_t,
            &store,
            &mut cred,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if major != sys::GSS_S_COMPLETE {
        return Err(GssError { major: libgssapi::error::MajorFlags::from_bits_retain(major), minor });
    }
    // SAFETY: the call succeeded, so `cred` is a credential that nothing else owns.
    Ok(unsafe { Cred::from_c(cred) })
}

//! libkrb5 without its network: it makes and reads Kerberos' messages, and whoever calls carries them.
//!
//! So every exchange can be bounded and given up, and there is one exchange with a password and no second one with
//! another KDC, which a wrong password would pay for twice.

use crate::sys::{self, Code, Data, Opaque};
use libgssapi::credential::Cred;
use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint},
    io::{Seek as _, Write as _},
    os::fd::AsRawFd as _,
    ptr, slice,
};
use zeroize::Zeroizing;

/// `ERROR_TABLE_BASE_krb5`.
const BASE: i64 = -1_765_328_384;
/// Number of `KDC_ERR_PREAUTH_FAILED` in a KDC's answer.
const PREAUTH_FAILED: c_uint = 24;

/// Why libkrb5 does not go on.
#[derive(Debug)]
pub struct Failure {
    /// libkrb5's code.
    pub code: Code,
    /// Its words.
    pub message: String,
}

impl Failure {
    /// The code's offset in libkrb5's table: up to 127 what a KDC answers, beyond that the library's own.
    pub fn offset(&self) -> i64 {
        i64::from(self.code) - BASE
    }
}

/// What ends an exchange early: libkrb5, or who carries its messages.
#[derive(Debug)]
pub enum Stop<E> {
    /// libkrb5 gave up.
    Library(Failure),
    /// The network.
    Network(E),
}

impl<E> From<Failure> for Stop<E> {
    fn from(failure: Failure) -> Self {
        Self::Library(failure)
    }
}

/// Carries a message to a KDC of the named realm and brings its answer.
pub type Carrier<'a, E> = &'a mut dyn FnMut(&str, Vec<u8>) -> Result<Vec<u8>, E>;

/// A libkrb5 context. It stays on its thread.
pub struct Library {
    context: *mut Opaque,
}

/// A principal of a context.
struct Principal<'l> {
    library: &'l Library,
    raw: *mut Opaque,
}

/// A credential cache in memory, which ends with this. libkrb5 finds it by name from any thread.
pub struct Cache {
    name: CString,
}

/// Who asks for a first ticket, and how.
pub struct Ask<'a> {
    /// The name, with its realm unless it is an enterprise name.
    pub name: &'a str,
    /// It is an enterprise name, `user@domain.example`.
    pub enterprise: bool,
    /// The KDC may answer for another spelling of the name.
    pub canonicalize: bool,
    /// Wraps the exchange in FAST under this ticket, which then is demanded.
    pub armor: Option<&'a Cache>,
    /// `None`: the anonymous principal, by PKINIT.
    pub password: Option<&'a Zeroizing<String>>,
}

fn text(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure { code: 0, message: "a zero byte within a name".to_owned() })
}

impl Library {
    /// A context with this configuration and no other.
    pub fn configured(profile: &str) -> Result<Self, Failure> {
        let failed = |message: String| Failure { code: 0, message };
        let file = nix::sys::memfd::memfd_create(c"krb5.conf", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
        let mut file = std::fs::File::from(file.map_err(|error| failed(format!("no memory file: {error}")))?);
        file.write_all(profile.as_bytes())
            .and_then(|()| file.rewind())
            .map_err(|error| failed(format!("the memory file: {error}")))?;
        let path = text(&format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let mut read = ptr::null_mut();
        // SAFETY: the path is a string that outlives the call, and `read` takes the result.
        let code = unsafe { sys::profile_init_path(path.as_ptr(), &mut read) };
        if code != 0 {
            return Err(failed(format!("libkrb5 does not take its configuration: {code}")));
        }
        let mut context = ptr::null_mut();
        // SAFETY: `read` is a profile; the context makes a copy of it, so it is released here, once.
        let code = unsafe {
            let code = sys::krb5_init_context_profile(read, 0, &mut context);
            sys::profile_release(read);
            code
        };
        match code {
            0 => Ok(Self { context }),
            code => Err(Failure { code, message: format!("libkrb5 does not start: {code}") }),
        }
    }

    /// A context with the system's configuration.
    fn system() -> Result<Self, Failure> {
        let mut context = ptr::null_mut();
        // SAFETY: `context` takes the result.
        match unsafe { sys::krb5_init_context(&mut context) } {
            0 => Ok(Self { context }),
            code => Err(Failure { code, message: format!("libkrb5 does not start: {code}") }),
        }
    }

    fn check(&self, code: Code) -> Result<(), Failure> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the context is alive; the message is a string until it is freed, which happens once, after the copy.
        let message = unsafe {
            let raw = sys::krb5_get_error_message(self.context, code);
            let message = CStr::from_ptr(raw).to_string_lossy().into_owned();
            sys::krb5_free_error_message(self.context, raw);
            message
        };
        Err(Failure { code, message })
    }

    fn principal(&self, name: &str, flags: c_int) -> Result<Principal<'_>, Failure> {
        let name = text(name)?;
        let mut raw = ptr::null_mut();
        // SAFETY: the context is alive, the name a string, and `raw` takes the result.
        let code = unsafe { sys::krb5_parse_name_flags(self.context, name.as_ptr(), flags, &mut raw) };
        self.check(code)?;
        Ok(Principal { library: self, raw })
    }

    /// A new, empty cache.
    fn new_cache(&self) -> Result<Cache, Failure> {
        let mut raw = ptr::null_mut();
        let mut name: *mut c_char = ptr::null_mut();
        // SAFETY: the context is alive; `raw` takes a handle, which is closed once; `name` takes a string, which is
        // copied and freed once.
        unsafe {
            self.check(sys::krb5_cc_new_unique(self.context, c"MEMORY".as_ptr(), ptr::null(), &mut raw))?;
            let named = self.check(sys::krb5_cc_get_full_name(self.context, raw, &mut name));
            let cache = named.map(|()| {
                let cache = Cache { name: CStr::from_ptr(name).to_owned() };
                sys::krb5_free_string(self.context, name);
                cache
            });
            sys::krb5_cc_close(self.context, raw);
            cache
        }
    }

    /// Runs with a handle of the cache.
    fn with<T, E: From<Failure>>(
        &self,
        cache: &Cache,
        run: impl FnOnce(*mut Opaque) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut raw = ptr::null_mut();
        // SAFETY: the context is alive, the name a string, and `raw` takes a handle, which is closed below, once.
        self.check(unsafe { sys::krb5_cc_resolve(self.context, cache.name.as_ptr(), &mut raw) })?;
        let result = run(raw);
        // SAFETY: as above; `run` has not kept it.
        unsafe { sys::krb5_cc_close(self.context, raw) };
        result
    }

    /// Gets a first ticket into a cache of its own.
    pub fn first_ticket<E>(&self, ask: &Ask<'_>, carry: Carrier<'_, E>) -> Result<Cache, Stop<E>> {
        let flags = if ask.enterprise { sys::PARSE_ENTERPRISE } else { 0 };
        let client = self.principal(ask.name, flags)?;
        let cache = self.new_cache()?;
        let options = Options::new(self)?;
        // SAFETY: the options are alive, and these calls only store numbers in them.
        unsafe {
            sys::krb5_get_init_creds_opt_set_canonicalize(options.raw, c_int::from(ask.canonicalize));
            sys::krb5_get_init_creds_opt_set_anonymous(options.raw, c_int::from(ask.password.is_none()));
            sys::krb5_get_init_creds_opt_set_forwardable(options.raw, 0);
        }
        self.with(&cache, |raw| {
            // SAFETY: context, options and handle are alive. The options keep the handle, which is used by nothing but
            // `get`, within this closure.
            self.check(unsafe {
                sys::krb5_get_init_creds_opt_set_out_ccache(self.context, options.raw, raw)
            })?;
            let Some(armor) = ask.armor else { return self.get(&client, &options, ask.password, carry) };
            self.with(armor, |armor| {
                // SAFETY: as above; libkrb5 copies the name of the armour's cache.
                unsafe {
                    self.check(sys::krb5_get_init_creds_opt_set_fast_ccache(
                        self.context,
                        options.raw,
                        armor,
                    ))?;
                    self.check(sys::krb5_get_init_creds_opt_set_fast_flags(
                        self.context,
                        options.raw,
                        sys::FAST_REQUIRED,
                    ))?;
                }
                self.get(&client, &options, ask.password, carry)
            })
        })?;
        Ok(cache)
    }

    fn get<E>(
        &self,
        client: &Principal<'_>,
        options: &Options<'_>,
        password: Option<&Zeroizing<String>>,
        carry: Carrier<'_, E>,
    ) -> Result<(), Stop<E>> {
        let mut raw = ptr::null_mut();
        // SAFETY: context, client and options are alive and outlive the exchange; there is no prompter.
        self.check(unsafe {
            sys::krb5_init_creds_init(
                self.context,
                client.raw,
                ptr::null_mut(),
                ptr::null_mut(),
                0,
                options.raw,
                &mut raw,
            )
        })?;
        let exchange = Exchange { library: self, raw, free: sys::krb5_init_creds_free };
        if let Some(password) = password {
            let mut bytes = Zeroizing::new(Vec::with_capacity(password.len() + 1));
            bytes.extend_from_slice(password.as_bytes());
            bytes.push(0);
            // SAFETY: the bytes end in a zero and outlive the call, which makes a copy that libkrb5 zeroes.
            self.check(unsafe {
                sys::krb5_init_creds_set_password(self.context, exchange.raw, bytes.as_ptr().cast())
            })?;
        }
        let mut refused = |exchange: *mut Opaque| {
            let mut error = ptr::null_mut();
            // SAFETY: context and exchange are alive; `error` takes an error that is freed once, or null.
            unsafe {
                let code = sys::krb5_init_creds_get_error(self.context, exchange, &mut error);
                if code != 0 || error.is_null() {
                    return None;
                }
                let number = (*error).error;
                sys::krb5_free_error(self.context, error);
                // Another way to prove the same password would be counted as a second try.
                (number == PREAUTH_FAILED).then(|| Failure {
                    code: (BASE + i64::from(number)) as Code,
                    message: "the password is not right".to_owned(),
                })
            }
        };
        self.steps(&exchange, sys::krb5_init_creds_step, &mut refused, carry)
    }

    /// Gets a ticket for `service` into the cache, which has a first ticket.
    pub fn service_ticket<E>(
        &self,
        cache: &Cache,
        service: &str,
        carry: Carrier<'_, E>,
    ) -> Result<(), Stop<E>> {
        let server = self.principal(service, 0)?;
        self.with(cache, |handle| {
            let mut client = ptr::null_mut();
            // SAFETY: context and handle are alive, and `client` takes the result.
            self.check(unsafe { sys::krb5_cc_get_principal(self.context, handle, &mut client) })?;
            let client = Principal { library: self, raw: client };
            let mut wanted = sys::Creds {
                magic: 0,
                client: client.raw,
                server: server.raw,
                keyblock: sys::Keyblock { magic: 0, enctype: 0, length: 0, contents: ptr::null_mut() },
                times: [0; 4],
                is_skey: 0,
                ticket_flags: 0,
                addresses: ptr::null_mut(),
                ticket: Data::empty(),
                second_ticket: Data::empty(),
                authdata: ptr::null_mut(),
            };
            let mut raw = ptr::null_mut();
            // SAFETY: all is alive; libkrb5 copies what is wanted.
            self.check(unsafe { sys::krb5_tkt_creds_init(self.context, handle, &mut wanted, 0, &mut raw) })?;
            let exchange = Exchange { library: self, raw, free: sys::krb5_tkt_creds_free };
            self.steps(&exchange, sys::krb5_tkt_creds_step, &mut |_| None, carry)
        })
    }

    /// Message after message, until libkrb5 needs none. `refused` looks at what libkrb5 wants to go on after.
    fn steps<E>(
        &self,
        exchange: &Exchange<'_>,
        step: Step,
        refused: &mut dyn FnMut(*mut Opaque) -> Option<Failure>,
        carry: Carrier<'_, E>,
    ) -> Result<(), Stop<E>> {
        let mut answer: Vec<u8> = Vec::new();
        loop {
            let mut input = Data {
                magic: 0,
                length: answer.len() as c_uint,
                data: if answer.is_empty() { ptr::null_mut() } else { answer.as_mut_ptr().cast() },
            };
            let (mut output, mut realm, mut flags) = (Data::empty(), Data::empty(), 0);
            // SAFETY: context and exchange are alive; the input points at `answer`, which the call only reads.
            let code =
                unsafe { step(self.context, exchange.raw, &mut input, &mut output, &mut realm, &mut flags) };
            let (request, realm) = (self.take(output), self.take(realm));
            self.check(code)?;
            if flags & sys::CONTINUE == 0 {
                return Ok(());
            }
            if let Some(failure) = refused(exchange.raw) {
                return Err(failure.into());
            }
            answer = carry(&String::from_utf8_lossy(&realm), request).map_err(Stop::Network)?;
        }
    }

    /// The bytes of something that libkrb5 made, which is freed.
    fn take(&self, mut data: Data) -> Vec<u8> {
        if data.data.is_null() {
            return Vec::new();
        }
        // SAFETY: libkrb5 gave `length` bytes at `data`, which are freed once, after the copy.
        unsafe {
            let bytes = slice::from_raw_parts(data.data.cast::<u8>(), data.length as usize).to_vec();
            sys::krb5_free_data_contents(self.context, &mut data);
            bytes
        }
    }
}

/// `krb5_init_creds_step` or `krb5_tkt_creds_step`.
type Step =
    unsafe extern "C" fn(*mut Opaque, *mut Opaque, *mut Data, *mut Data, *mut Data, *mut c_uint) -> Code;

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: whatever borrowed the context is gone, and it is freed once.
        unsafe { sys::krb5_free_context(self.context) }
    }
}

impl Drop for Principal<'_> {
    fn drop(&mut self) {
        // SAFETY: made in this context, and freed once.
        unsafe { sys::krb5_free_principal(self.library.context, self.raw) }
    }
}

/// An exchange of messages.
struct Exchange<'l> {
    library: &'l Library,
    raw: *mut Opaque,
    free: unsafe extern "C" fn(*mut Opaque, *mut Opaque),
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        // SAFETY: made in this context, and freed once by the function for its kind.
        unsafe { (self.free)(self.library.context, self.raw) }
    }
}

/// Options of a first ticket.
struct Options<'l> {
    library: &'l Library,
    raw: *mut Opaque,
}

impl<'l> Options<'l> {
    fn new(library: &'l Library) -> Result<Self, Failure> {
        let mut raw = ptr::null_mut();
        // SAFETY: the context is alive, and `raw` takes the result.
        library.check(unsafe { sys::krb5_get_init_creds_opt_alloc(library.context, &mut raw) })?;
        Ok(Self { library, raw })
    }
}

impl Drop for Options<'_> {
    fn drop(&mut self) {
        // SAFETY: made in this context, and freed once.
        unsafe { sys::krb5_get_init_creds_opt_free(self.library.context, self.raw) }
    }
}

impl Cache {
    /// The cache as GSSAPI wants it. It must not outlive the cache.
    pub fn gss(&self) -> Result<Cred, Failure> {
        let library = Library::system()?;
        library.with(self, |handle| {
            let (mut minor, mut raw) = (0, ptr::null_mut());
            // SAFETY: the handle is alive, the call makes its own, and `raw` takes the result.
            let major = unsafe {
                sys::gss_krb5_import_cred(&mut minor, handle, ptr::null_mut(), ptr::null_mut(), &mut raw)
            };
            if major != 0 {
                library.check(minor as Code)?;
                return Err(Failure { code: minor as Code, message: "GSSAPI takes no ticket".to_owned() });
            }
            // SAFETY: `raw` is a credential that nobody else owns.
            Ok(unsafe { Cred::from_c(raw.cast()) })
        })
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // A context that cannot be had leaves the cache to the end of the process.
        let Ok(library) = Library::system() else { return };
        let mut raw = ptr::null_mut();
        // SAFETY: the context is alive, the name a string; destroying closes the handle.
        unsafe {
            if sys::krb5_cc_resolve(library.context, self.name.as_ptr(), &mut raw) == 0 {
                sys::krb5_cc_destroy(library.context, raw);
            }
        }
    }
}

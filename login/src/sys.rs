//! The parts of libkrb5 that a log-in needs, declared by hand after `krb5.h` (MIT krb5 1.20 and 1.21, one ABI since 1.8).

use std::{
    ffi::{c_char, c_int, c_long, c_uint, c_void},
    ptr,
};

/// Opaque to callers: contexts, principals, caches, options and exchanges are only ever pointed at.
#[repr(C)]
pub struct Opaque {
    _private: [u8; 0],
}

/// `krb5_error_code`.
pub type Code = i32;

/// `krb5_data`.
#[repr(C)]
pub struct Data {
    pub magic: i32,
    pub length: c_uint,
    pub data: *mut c_char,
}

impl Data {
    pub const fn empty() -> Self {
        Self { magic: 0, length: 0, data: ptr::null_mut() }
    }
}

/// `krb5_keyblock`.
#[repr(C)]
pub struct Keyblock {
    pub magic: i32,
    pub enctype: i32,
    pub length: c_uint,
    pub contents: *mut u8,
}

/// `krb5_creds`.
#[repr(C)]
pub struct Creds {
    pub magic: i32,
    pub client: *mut Opaque,
    pub server: *mut Opaque,
    pub keyblock: Keyblock,
    pub times: [i32; 4],
    pub is_skey: c_uint,
    pub ticket_flags: i32,
    pub addresses: *mut c_void,
    pub ticket: Data,
    pub second_ticket: Data,
    pub authdata: *mut c_void,
}

/// `krb5_error`, as far as it is read.
#[repr(C)]
pub struct KdcError {
    pub magic: i32,
    pub ctime: i32,
    pub cusec: i32,
    pub susec: i32,
    pub stime: i32,
    pub error: c_uint,
}

/// `KRB5_PRINCIPAL_PARSE_ENTERPRISE`.
pub const PARSE_ENTERPRISE: c_int = 4;
/// `KRB5_INIT_CREDS_STEP_FLAG_CONTINUE` and `KRB5_TKT_CREDS_STEP_FLAG_CONTINUE`.
pub const CONTINUE: c_uint = 1;
/// `KRB5_FAST_REQUIRED`.
pub const FAST_REQUIRED: i32 = 1;

#[link(name = "krb5")]
unsafe extern "C" {
    pub fn profile_init_path(list: *const c_char, profile: *mut *mut Opaque) -> c_long;
    pub fn profile_release(profile: *mut Opaque);
    pub fn krb5_init_context(context: *mut *mut Opaque) -> Code;
    pub fn krb5_init_context_profile(profile: *mut Opaque, flags: i32, context: *mut *mut Opaque) -> Code;
    pub fn krb5_free_context(context: *mut Opaque);
    pub fn krb5_get_error_message(context: *mut Opaque, code: Code) -> *const c_char;
    pub fn krb5_free_error_message(context: *mut Opaque, message: *const c_char);
    pub fn krb5_free_data_contents(context: *mut Opaque, data: *mut Data);

    pub fn krb5_parse_name_flags(
        context: *mut Opaque,
        name: *const c_char,
        flags: c_int,
        principal: *mut *mut Opaque,
    ) -> Code;
    pub fn krb5_free_principal(context: *mut Opaque, principal: *mut Opaque);

    pub fn krb5_cc_new_unique(
        context: *mut Opaque,
        kind: *const c_char,
        hint: *const c_char,
        cache: *mut *mut Opaque,
    ) -> Code;
    pub fn krb5_cc_resolve(context: *mut Opaque, name: *const c_char, cache: *mut *mut Opaque) -> Code;
    pub fn krb5_cc_get_full_name(context: *mut Opaque, cache: *mut Opaque, name: *mut *mut c_char) -> Code;
    pub fn krb5_cc_get_principal(
        context: *mut Opaque,
        cache: *mut Opaque,
        principal: *mut *mut Opaque,
    ) -> Code;
    pub fn krb5_free_string(context: *mut Opaque, string: *mut c_char);
    pub fn krb5_cc_close(context: *mut Opaque, cache: *mut Opaque) -> Code;
    pub fn krb5_cc_destroy(context: *mut Opaque, cache: *mut Opaque) -> Code;

    pub fn krb5_get_init_creds_opt_alloc(context: *mut Opaque, options: *mut *mut Opaque) -> Code;
    pub fn krb5_get_init_creds_opt_free(context: *mut Opaque, options: *mut Opaque);
    pub fn krb5_get_init_creds_opt_set_canonicalize(options: *mut Opaque, canonicalize: c_int);
    pub fn krb5_get_init_creds_opt_set_anonymous(options: *mut Opaque, anonymous: c_int);
    pub fn krb5_get_init_creds_opt_set_forwardable(options: *mut Opaque, forwardable: c_int);
    pub fn krb5_get_init_creds_opt_set_out_ccache(
        context: *mut Opaque,
        options: *mut Opaque,
        cache: *mut Opaque,
    ) -> Code;
    pub fn krb5_get_init_creds_opt_set_fast_ccache(
        context: *mut Opaque,
        options: *mut Opaque,
        cache: *mut Opaque,
    ) -> Code;
    pub fn krb5_get_init_creds_opt_set_fast_flags(
        context: *mut Opaque,
        options: *mut Opaque,
        flags: i32,
    ) -> Code;

    pub fn krb5_init_creds_init(
        context: *mut Opaque,
        client: *mut Opaque,
        prompter: *mut c_void,
        data: *mut c_void,
        start_time: i32,
        options: *mut Opaque,
        exchange: *mut *mut Opaque,
    ) -> Code;
    pub fn krb5_init_creds_set_password(
        context: *mut Opaque,
        exchange: *mut Opaque,
        password: *const c_char,
    ) -> Code;
    pub fn krb5_init_creds_step(
        context: *mut Opaque,
        exchange: *mut Opaque,
        input: *mut Data,
        output: *mut Data,
        realm: *mut Data,
        flags: *mut c_uint,
    ) -> Code;
    pub fn krb5_init_creds_get_error(
        context: *mut Opaque,
        exchange: *mut Opaque,
        error: *mut *mut KdcError,
    ) -> Code;
    pub fn krb5_free_error(context: *mut Opaque, error: *mut KdcError);
    pub fn krb5_init_creds_free(context: *mut Opaque, exchange: *mut Opaque);

    pub fn krb5_tkt_creds_init(
        context: *mut Opaque,
        cache: *mut Opaque,
        wanted: *mut Creds,
        options: i32,
        exchange: *mut *mut Opaque,
    ) -> Code;
    pub fn krb5_tkt_creds_step(
        context: *mut Opaque,
        exchange: *mut Opaque,
        input: *mut Data,
        output: *mut Data,
        realm: *mut Data,
        flags: *mut c_uint,
    ) -> Code;
    pub fn krb5_tkt_creds_free(context: *mut Opaque, exchange: *mut Opaque);
}

#[link(name = "gssapi_krb5")]
unsafe extern "C" {
    pub fn gss_krb5_import_cred(
        minor: *mut u32,
        cache: *mut Opaque,
        keytab_principal: *mut Opaque,
        keytab: *mut c_void,
        cred: *mut *mut c_void,
    ) -> u32;
}

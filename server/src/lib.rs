//! The parcel server: Kerberos, locks, versions and chunks over an object store.

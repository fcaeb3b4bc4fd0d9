//! Every code, once. `docs/errors.md` is made from this table.
//!
//! A row: name, text, HTTP status if the parcel server answers with it, from which stake on it is tried again, what
//! happened, what to do. Codes never change their meaning. `Nothing`, `Lock`, `Work` name the least `Stake` at which trying again is
//! right; `Login` waits for a log-in, `Never` is final. When in doubt, `Work`: nobody's work ends because of an error that somebody
//! can mend.

use super::{Again, Origin, UnknownCode};

macro_rules! codes {
    ($([$origin:ident] $($name:ident $text:literal $(($status:literal))? $again:ident $cause:literal $remedy:literal;)*)*) => {
        /// A code of an error, for IT. Stable: programs of other versions, logs and the docs have it too.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(
                #[doc = $cause]
                $name,
            )*)*
            /// A code of another version's program.
            Unknown(UnknownCode),
        }

        impl Code {
            /// All that this program knows, in the order of `docs/errors.md`.
            pub const ALL: &'static [Code] = &[$($(Code::$name,)*)*];

            /// As it travels and is shown: lower case with dashes.
            pub fn text(&self) -> &str {
                match self {
                    $($(Code::$name => $text,)*)*
                    Code::Unknown(text) => text.as_str(),
                }
            }

            pub(super) fn known(text: &str) -> Option<Self> {
                match text {
                    $($($text => Some(Code::$name),)*)*
                    _ => None,
                }
            }

            pub(super) fn again(&self) -> Again {
                match self {
                    $($(Code::$name => Again::$again,)*)*
                    Code::Unknown(_) => Again::Work,
                }
            }

            /// The part of Waystation whose errors it is listed with; `None`: not known here.
            pub fn origin(&self) -> Option<Origin> {
                match self {
                    $($(Code::$name => Some(Origin::$origin),)*)*
                    Code::Unknown(_) => None,
                }
            }

            /// The HTTP status that the parcel server answers with it, if it does.
            pub fn status(&self) -> Option<u16> {
                match self {
                    $($($(Code::$name => Some($status),)?)*)*
                    _ => None,
                }
            }

            /// What happened.
            pub fn cause(&self) -> &'static str {
                match self {
                    $($(Code::$name => $cause,)*)*
                    Code::Unknown(_) => "A program of another version says so; its own docs explain it.",
                }
            }

            /// What to do about it.
            pub fn remedy(&self) -> &'static str {
                match self {
                    $($(Code::$name => $remedy,)*)*
                    Code::Unknown(_) => "Update the older of the two programs.",
                }
            }
        }
    };
}

codes! {
    [Server]
    NoTicket "no-ticket" (401) Login
        "The request came without a Kerberos ticket or a log-in."
        "Log in.";
    BadTicket "bad-ticket" (401) Login
        "Kerberos did not accept the ticket: it has expired, was replayed, is for another service, or is under a key that the server does not have."
        "Check both clocks; get a new ticket. If everybody is refused, compare `klist -k` of the keytab with the service's key version in the KDC.";
    BadToken "bad-token" (401) Login
        "This server did not issue the log-in, or its key file was replaced since."
        "Log in again.";
    TokenExpired "token-expired" (401) Login
        "The log-in's time is over."
        "Log in again.";
    NotAdmin "not-admin" (403) Work
        "Somebody who is not in `admins` wanted to make a parcel for another."
        "Let an administrator do it.";
    MayNotCreate "may-not-create" (403) Work
        "The `[[quota]]` that fits the owner does not let the owner make parcels, or there are quotas and none fits the owner."
        "Let an administrator make one for the owner, or write `create = true`. Where none fits, not even an administrator can: add a `[[quota]]` that does.";
    QuotaParcels "quota-parcels" (403) Work
        "The owner has as many parcels as the `[[quota]]` allows. The sentence has both numbers. A quota never stops a session or its commit."
        "Discard one that was never finished, or raise `parcels` in the quota and restart the server.";
    NotOwner "not-owner" (403) Work
        "Somebody who holds a parcel but does not own it wanted to break its lock, or to change its key slots without the lock."
        "Let the owner do it.";
    NoSuchParcel "no-such-parcel" (404) Lock
        "There is no such parcel, or it is not the caller's. The two look the same on purpose."
        "List the parcels. If a kiosk that holds the lock says so, the server runs on the wrong or an empty store: mount the right one.";
    NoSuchVersion "no-such-version" (404) Work
        "The parcel has no such committed version."
        "List its versions.";
    NoSlots "no-slots" (404) Work
        "The parcel has no key slots yet."
        "Finish the import or clone that made it.";
    NoSuchChunk "no-such-chunk" (404) Work
        "No object of that name is stored."
        "Another source may have it. If a committed version names it, the store lost it: restore it from backup, or send it again from a kiosk or medium that has it.";
    NoSuchRoute "no-such-route" (404) Work
        "The server does not know the path."
        "Client and server are of different versions: update the older one.";
    BadMethod "bad-method" (405) Work
        "The path exists and does not take this method."
        "Client and server are of different versions: update the older one.";
    BadRequest "bad-request" (400) Work
        "Not a valid request: its JSON, query or names are wrong, or the connection broke."
        "The sentence says what.";
    BadName "bad-name" (400) Nothing
        "The bytes do not match the name that they were sent under: they were damaged on the way."
        "The client sends them again. If it persists, the client's memory or disk is damaged.";
    BadRecord "bad-record" (400) Work
        "Not a valid version record: it cannot be read, it is of another parcel or version, or one of its leaves is not a leaf or belongs elsewhere."
        "A fault of the client, or a version mismatch.";
    BadSlots "bad-slots" (400) Work
        "Not valid key slots."
        "A fault of the client, or a version mismatch.";
    TooSlow "too-slow" (408) Nothing
        "The client stopped in the middle of a request."
        "Try again; see `idle_timeout_s`.";
    Exists "exists" (409) Work
        "The id of the new parcel is taken."
        "Choose another id.";
    NameTaken "name-taken" (409) Work
        "The owner has a parcel of that name."
        "Choose another name.";
    Locked "locked" (409) Work
        "Another user holds the lock, or the same user elsewhere; `holder` says who."
        "Suspend there, or break the lock.";
    StaleEpoch "stale-epoch" (409) Never
        "The lock was released or broken. Nothing was changed; objects that were sent are kept."
        "A kiosk sends its work home as a parcel of its own. Else take the lock again.";
    UnknownClaim "unknown-claim" (409) Lock
        "This store does not know the lock that the request shows: the store is an earlier state of itself. Nothing was changed. The rescue of work gets this too, if no lock of its claim was broken, or if its work was rescued before."
        "Put the right store back, or run `parcel-server restored`. A kiosk keeps the work and asks again.";
    OtherStore "other-store" (409) Lock
        "The lock is from another store, or from another generation of this store. Nothing was changed. The session's work does not fit the store that is served now; the sentence says why."
        "Mount the right store. After a restore, see [troubleshooting.md](troubleshooting.md#the-server-was-restored). A kiosk keeps the work and asks again.";
    WrongParent "wrong-parent" (409) Work
        "The version does not follow the last one."
        "Open the last version and commit from there. If a kiosk that holds the lock says so, the server was restored from a backup.";
    HasVersions "has-versions" (409) Work
        "The parcel has a version, so it cannot be discarded."
        "Only unfinished parcels can be discarded.";
    MissingObjects "missing-objects" (409) Work
        "The commit names objects that are not stored."
        "Send them and commit again.";
    Hardware "hardware" (412) Work
        "The kiosk lacks what the tag requires; `misses` names each item. No lock was taken."
        "Use another kiosk. Where only the CPU's vendor or the device model is missing, a cold boot works here.";
    TooLarge "too-large" (413) Work
        "The body is larger than this request may be."
        "A fault of the client; for objects, see `max_object_bytes`.";
    Store "store" (500) Nothing
        "The store cannot be read or written, or a head or record in it is damaged."
        "The server's log names the object and the reason.";
    Busy "busy" (503) Nothing
        "Too many requests at once, for one object or in all."
        "Try again.";
    NoRandomness "no-randomness" (503) Nothing
        "The system gives no random numbers, to the server or to `waystation`."
        "Try again later.";
    StoreFull "store-full" (507) Lock
        "The store has no space left. Nothing was stored; what was committed is safe."
        "Make space; try again.";

    [Login]
    LoginDenied "login-denied" Login
        "The user name or the password is not right."
        "Try again.";
    PasswordExpired "password-expired" Login
        "The password must be changed first."
        "Change it.";
    AccountLocked "account-locked" Login
        "The account is locked or revoked."
        "IT unlocks it.";
    AccountExpired "account-expired" Login
        "The account has expired."
        "IT renews it.";
    ClockSkew "clock-skew" Login
        "The clocks of this machine and the realm differ too much."
        "Set the clock.";
    KdcUnreachable "kdc-unreachable" Login
        "No KDC of the realm answers: each was tried, for two minutes in all. Or each that answers says that it is not available."
        "Check network and realm; KDCs must listen on TCP.";
    DnsNone "dns-none" Login
        "The network names no DNS server, and `kiosk.toml` names no KDC by address."
        "Look at the network's DHCP server; or name KDCs by address.";
    DnsSilent "dns-silent" Login
        "No DNS server answers; the sentence names them."
        "Check the network.";
    KdcNotInDns "kdc-not-in-dns" Login
        "DNS answers that it has no SRV record `_kerberos._tcp` or `_kerberos._udp` for the realm."
        "Name the KDCs in `realm.kdc`, or add the records.";
    KdcNameUnknown "kdc-name-unknown" Login
        "DNS does not know the KDC that `kiosk.toml` names."
        "Correct `realm.kdc`.";
    KdcProxy "kdc-proxy" Login
        "The KDC proxy does not answer, or answers with something else."
        "Check `realm.kdc_proxy` and the proxy's log.";
    WeakPreauth "weak-preauth" Login
        "The KDC offers only encrypted timestamps, from which others could guess the password. Nothing was sent."
        "Set up SPAKE, FAST or a KDC proxy (see `docs/images.md`); or accept it with `weak_preauth = true`. If the KDC does offer SPAKE, somebody on the path may pretend to be it.";
    WeakEncryption "weak-encryption" Login
        "The KDC offers no AES key."
        "Give the user and the service AES keys (change the password once); else as for `weak-preauth`.";
    NoArmor "no-armor" Login
        "The KDC gives no anonymous ticket by PKINIT, or its certificate is not from `pkinit_anchors`, or is not valid by the kiosk's clock."
        "Check the KDC's PKINIT set-up and its certificate.";
    RealmUnknown "realm-unknown" Login
        "The realm is not one that `kiosk.toml` lists, or the user name has a backslash."
        "Check its name; add it under `[realms]`.";
    ServiceUnknown "service-unknown" Login
        "The realm has no principal for the parcel server."
        "Check the server's address; make its keytab.";
    TicketMissing "ticket-missing" Login
        "There is no valid ticket, or the realm gave none."
        "`kinit`.";
    KerberosFailed "kerberos-failed" Login
        "Another error of Kerberos; the sentence names it."
        "Do what the sentence says.";

    [Screens]
    SlotsUnreadable "slots-unreadable" Work
        "The parcel's key slots are damaged, or a newer program wrote them."
        "Update the kiosk; else restore the slots from a backup.";
    WrongPassword "wrong-password" Work
        "What was typed at a running session opens none of the computer's key slots."
        "Use the password that the computer was opened with, or the recovery key: a password that was changed since does not count yet.";
    ManagerSilent "manager-silent" Nothing
        "`init` did not begin within 20 seconds what the user chose, or its socket broke. Nothing was done."
        "Try again; `init`'s log says why.";
    OtherUser "other-user" Work
        "The log-in during the session was another user's for the server. Its token was not used."
        "Log in as the session's user. If the principal was renamed, undo that, or give the session up.";
    UnlockFailed "unlock-failed" Work
        "There was no memory, or no random numbers, to open the key slot."
        "Try again; restart the kiosk.";

    [Client]
    ServerUnreachable "server-unreachable" Nothing
        "There is no connection to the parcel server, or it broke."
        "Check the network. The client tries again by itself.";
    ServerCertificate "server-certificate" Lock
        "The server's certificate is not from the CA that the client trusts."
        "Check CA file and clock.";
    CertificateExpired "certificate-expired" Lock
        "By this machine's clock, the certificate of the server or the KDC proxy has expired."
        "Look at the clock first, then at the certificate.";
    CertificateNotYetValid "certificate-not-yet-valid" Lock
        "By this machine's clock, the certificate of the server or the KDC proxy is not valid yet."
        "Look at the clock first, then at the certificate.";
    ServerProtocol "server-protocol" Lock
        "Not a parcel server's answer."
        "Check the address.";
    ServerUnavailable "server-unavailable" Nothing
        "A proxy in front of the parcel server says that the server cannot answer now; the sentence has the HTTP status."
        "Check the proxy and the server. The client tries again by itself.";
    ServerError "server-error" Lock
        "An error without a code, such as a proxy's; the sentence has the HTTP status."
        "Look at the proxy; check the address.";
    ServerSlow "server-slow" Nothing
        "The server has not answered for 10 seconds. The client still waits."
        "The link is slow or the server busy. If it stays so, check the server.";
    SessionExpired "session-expired" Login
        "The log-in ended during the session: its time is over, or the server's token key was replaced."
        "Log in again (Ctrl-] L in the session, L on the way in or out); what waits continues by itself.";
    PieceDamaged "piece-damaged" Lock
        "A piece arrives damaged. It is asked for again until it is whole."
        "Find the damaged chunk, and repair the server's store from backup ([troubleshooting.md](troubleshooting.md#it-is-damaged)).";
    PieceMissing "piece-missing" Lock
        "The server lacks a piece that the version names. It is asked for again."
        "Repair the server's store from backup.";
    PieceUnreadable "piece-unreadable" Lock
        "A newer program made the piece."
        "Update the kiosk.";
    StepUnderWay "step-under-way" Nothing
        "`cached` is still busy with another step of the session."
        "Wait for it.";
    OtherParcelLocked "other-parcel-locked" Work
        "The kiosk holds the lock of another parcel."
        "Unlock that one first.";
    CachedProtocol "cached-protocol" Work
        "`cached` does not understand a request."
        "Programs of different versions: build the image again.";
    BadKey "bad-key" Work
        "Not a valid parcel key."
        "A fault of the program: report it with the log.";
    NoKey "no-key" Work
        "`cached` does not have the parcel's key."
        "Log in again.";
    WrongKey "wrong-key" Work
        "The record does not open with the key."
        "Use the right key; or the record is damaged.";
    OtherKey "other-key" Work
        "What opens the parcel's key slot is not the key of the session under way."
        "Suspend if the computer runs: nothing is lost by it. On the way out, type the password that the session was opened with. Then see who changed the server's store.";
    NotLocked "not-locked" Never
        "The step needs the parcel's lock."
        "Lock it first.";
    EngineRestarted "engine-restarted" Login
        "`cached` ended in a session and was started again. The changes of the machine's disk are in the cache folder, sealed: the user's password opens them."
        "Type the password. Report it with the kiosk's log.";
    NoChanges "no-changes" Work
        "The engine was restarted in a session, and the cache folder holds no changes."
        "Give the session up. Report it with the kiosk's log.";
    ChangesDamaged "changes-damaged" Work
        "The changes of a session whose engine was killed are damaged in the cache folder: the medium fails. Nothing is taken from them, since an older state of some of them would pass for the last one."
        "Give the session up. Check the kiosk's disk.";
    ChangesLeft "changes-left" Work
        "The cache folder holds the changes of another session, so none is begun."
        "Wipe the kiosk: log out.";
    StillLocked "still-locked" Work
        "The server did not confirm the release of the lock within two minutes, or nobody logged in again for it. The kiosk ended the session; everything is home."
        "Break the lock at the next log-in.";
    ParcelEmpty "parcel-empty" Work
        "The parcel has no version yet."
        "Finish its import or clone.";
    FormatTooNew "format-too-new" Work
        "A newer program wrote the version."
        "Update the kiosk.";
    RecordDamaged "record-damaged" Work
        "A stored version record is damaged, or is of another version than the one requested."
        "Go back to an earlier version.";
    BadMemoryImage "bad-memory-image" Never
        "The page map and the packs do not match."
        "Boot from the disk; go back to an earlier version.";
    NotOpen "not-open" Never
        "No parcel is open."
        "Open one.";
    NothingSaved "nothing-saved" Never
        "There is no saved machine to commit."
        "Save it first. If the VMM died, the last version stays.";
    CacheMedium "cache-medium" Lock
        "The cache folder cannot be written, or does not give back what was written. What waits for it is asked for again. A commit needs it only for changes that are neither in memory nor sent yet; for those it waits, and no version is made."
        "Check the kiosk's disk.";
    AnswerTooLong "answer-too-long" Work
        "The server's answer is too long for the kiosk."
        "Remove old parcels or versions.";
    Socket "socket" Work
        "A socket cannot be made."
        "Look at the run folder's owner.";
    CacheService "cache-service" Nothing
        "`cached` does not answer."
        "See its log.";
    InternalError "internal-error" Work
        "A fault of the program, or no memory."
        "Report it with the log.";
    BadMemoryLayout "bad-memory-layout" Work
        "The VMM's memory does not match the machine."
        "Programs of different versions: build the image again.";
    NoMemory "no-memory" Work
        "The VMM did not give the guest's memory."
        "Programs of different versions: build the image again.";
    NoState "no-state" Work
        "The VMM did not give its own state."
        "Programs of different versions: build the image again.";
    NoDirtyPages "no-dirty-pages" Work
        "The VMM did not say of every page whether it changed."
        "Programs of different versions: build the image again.";
    NoDescriptor "no-descriptor" Work
        "A message of the VMM came without its descriptor."
        "Programs of different versions: build the image again.";
    BadInput "bad-input" Work
        "`waystation` cannot use an argument or a file, or has no space for one; the sentence names it."
        "Do what the sentence says.";
    TooManySecrets "too-many-secrets" Work
        "The parcel is a clone of too many clones."
        "Import the machine again.";
    Interrupted "interrupted" Work
        "The command was stopped by Ctrl-C, SIGTERM or SIGHUP."
        "The command removed what it began; if not, the sentence says what to do.";

    [Kiosk]
    VmmDied "vmm-died" Never
        "The virtual machine ended unexpectedly. If its disk had changed, the kiosk commits that, as after a power cut."
        "Resume again; the kiosk's log has its last words. If it persists, another kiosk, or boot from the disk.";
    CachedDied "cached-died" Never
        "The client engine ended unexpectedly in a session."
        "Log in again; break the lock if it stayed. Report it with the log.";
    ScreenDied "screen-died" Never
        "`kiosk-ui` ended after log-in, before a parcel was chosen."
        "Log in again.";
    KioskRestarted "kiosk-restarted" Never
        "The session manager ended unexpectedly and was started again; the kiosk was wiped."
        "Log in again; break the lock if it stayed. Report it with the log.";
    GaveUp "gave-up" Never
        "The user gave up; the sentence says what is lost, or may be lost."
        "Nothing.";
    Rescued "rescued" Never
        "The owner broke the lock elsewhere, so the changes were saved as a parcel of their own; the sentence names it."
        "Resume that parcel, too.";
    BatteryLow "battery-low" Work
        "The kiosk lives on its battery, whose charge is below `session.low_battery_percent`: a running session was suspended, one that had not begun to run was left."
        "Connect the kiosk to power.";
    NoInventory "no-inventory" Work
        "`vmm inventory` failed or hung."
        "Switch virtualization on in the firmware; else see the log.";
    NoCache "no-cache" Nothing
        "The cache's disk or memory cannot be used; the sentence says why."
        "`[cache]` in `kiosk.toml`: is there a partition named `waystation-cache`, on the disk that `cache.device` means, and was it there when the kiosk started ([images.md](images.md))? If the last session's could not be taken away, restart the kiosk.";
    NoGuestNetwork "no-guest-network" Nothing
        "The tap device, the packet filter or dnsmasq does not work."
        "A module or program is missing in the image: see the log.";
    BadConfig "bad-config" Work
        "`/etc/waystation/kiosk.json` is damaged."
        "Build the image again.";
    CachedMissing "cached-missing" Work
        "The program `cached` does not start."
        "Build the image again.";
    KioskUiMissing "kiosk-ui-missing" Work
        "The program `kiosk-ui` does not start."
        "Build the image again.";
    VmmMissing "vmm-missing" Work
        "The program `vmm` does not start."
        "Build the image again.";
    NoAnswer "no-answer" Work
        "`cached` did not answer `init` in time."
        "See the log.";
    BadAnswer "bad-answer" Work
        "`cached` gave an answer that does not fit the request of `init`."
        "Build the image again from one version.";
    OutOfOrder "out-of-order" Work
        "A phase of the session lacks what an earlier one should have left."
        "Report it with the log.";
    NoWayBack "no-way-back" Work
        "The session could not go back to the running machine."
        "Report it with the log.";

    [Vmm]
    VmmStarting "vmm-starting" Nothing
        "The machine is not there yet."
        "Ask again when its state is `running`.";
    VmmKvm "vmm-kvm" Work
        "A call of KVM failed; the sentence names it."
        "Is virtualization on in the firmware? Otherwise report it with the log.";
    VmmSystem "vmm-system" Work
        "A system call failed; the sentence names it."
        "The sentence names a socket, device or tap that is missing or belongs to another user.";
    VmmMachine "vmm-machine" Work
        "The machine's description cannot be built here."
        "Do what the sentence says. A machine from a newer version needs a newer kiosk.";
    VmmCpu "vmm-cpu" Work
        "The CPU lacks features of the baseline; the sentence names them."
        "Use another kiosk.";
    VmmKernel "vmm-kernel" Work
        "Kernel or initial RAM disk cannot be loaded."
        "Import the guest again with a 64-bit bzImage and enough memory.";
    VmmMemory "vmm-memory" Work
        "There is no memory for the guest, or it cannot be accessed."
        "Use a kiosk with more free memory; otherwise report it with the log.";
    VmmState "vmm-state" Work
        "The saved state is of another version, CPU, disk or machine, or it is damaged; the sentence says which."
        "Use another kiosk, or start from the disk.";
    VmmDisk "vmm-disk" Work
        "The disk's backend does not answer, or refuses."
        "The log of `cached` says why.";
    VmmProtocol "vmm-protocol" Work
        "Not a valid request, or one that cannot be done now."
        "Programs of different versions: build the image again.";
    VmmGuest "vmm-guest" Work
        "KVM cannot continue the guest, or a device failed in a vCPU; the sentence and the log say where. The guest is paused."
        "Suspend; resume on another kiosk, or start from the disk. Report it with the log.";
    VmmUnreadable "vmm-unreadable" Work
        "The state of a guest cannot be read, so that memory cannot be saved."
        "The kiosk commits the disk, as after a power cut. Start from the disk. Report it with the log.";
    VmmInternal "vmm-internal" Work
        "A thread ended unexpectedly."
        "Report it with the log.";
}

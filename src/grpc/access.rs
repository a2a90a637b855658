//! Who gets in, as whom, and what each call takes. It is asked once for each request, before anything else is done with it.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::CertificateDer;
use tonic::Status;

use super::{
    error,
    needs::{Need, need},
};
use crate::{
    auth::{Auth, Caller, Certificate, Refusal, Shown},
    status::{End, Leash, Subscription},
    tls::{self, ServerTls},
};

/// Who gets in. What is replaced counts for new connections and requests at once, and for watches within a second.
#[derive(Debug, Default)]
pub struct Access {
    tls: RwLock<Option<Arc<ServerTls>>>,
    auth: RwLock<Arc<Auth>>,
    held: Mutex<Held>,
}

/// Watches of those who may stop being let in.
#[derive(Debug, Default)]
struct Held {
    watches: Vec<(Leash, Caller)>,
    /// What they were last held against: who may do what, and a version of the tokens.
    against: Option<(Arc<Auth>, usize)>,
}

impl Access {
    /// With TLS, if there is any.
    #[must_use]
    pub fn new(tls: Option<Arc<ServerTls>>, auth: Arc<Auth>) -> Self {
        Self { tls: RwLock::new(tls), auth: RwLock::new(auth), held: Mutex::default() }
    }

    /// How connections over the network are secured, if they are. It knows when the certificates expire, too.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.read().clone()
    }

    /// Who may do what.
    #[must_use]
    pub fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.auth.read())
    }

    /// Puts others in their place, as after a change of the configuration.
    pub fn replace(&self, tls: Option<Arc<ServerTls>>, auth: Arc<Auth>) {
        *self.tls.write() = tls;
        *self.auth.write() = auth;
    }

    /// Whether anybody but those on this machine can get in.
    #[must_use]
    pub fn knows_others(&self) -> bool {
        self.auth().knows_others() || self.tls().is_some_and(|tls| tls.asks_clients())
    }

    /// Looks at the files, which somebody may have changed, and ends the watches of those who would not be let in any
    /// more. To be called every second or so.
    pub fn look(&self) {
        if let Some(tls) = self.tls() {
            let _ = tls.config();
        }
        let auth = self.auth();
        auth.look();
        self.held.lock().recheck(auth, SystemTime::now());
    }

    /// Who asks for this method; refused if it may not.
    pub(super) fn admit(
        &self,
        method: &str,
        headers: &HeaderMap,
        origin: &Origin,
    ) -> Result<Option<Caller>, Status> {
        let needed = match need(method) {
            Need::Nothing => return Ok(None),
            Need::Role(role) => role,
        };
        let caller = self.who(headers, origin).and_then(|caller| caller.require(needed).map(|()| caller));
        caller.map(Some).map_err(|refusal| error::refused(&refusal))
    }

    fn who(&self, headers: &HeaderMap, origin: &Origin) -> Result<Caller, Refusal> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let authorization = given.next().map(http::HeaderValue::as_bytes);
        if given.next().is_some() {
            return Err(Refusal::Invalid("there is more than one authorization"));
        }
        let (is_local, certificate) = (origin.is_local, origin.certificate.as_deref());
        self.auth().who(&Shown { is_local, certificate, authorization }, SystemTime::now())
    }

    /// For a request of somebody who was let in just now.
    pub(super) fn pass(self: &Arc<Self>, caller: Caller) -> Pass {
        Pass { access: Arc::clone(self), caller }
    }

    /// Notes a watch, to be ended when what its client has shown is not accepted any more. That may have happened since
    /// it was let in, and what has changed until now has been held against the others already.
    pub(super) fn hold(&self, caller: Caller, watch: &Subscription) {
        if caller.may_lapse() {
            let (mut held, leash) = (self.held.lock(), watch.leash());
            if is_still_good(&self.auth(), &leash, &caller, true, SystemTime::now()) {
                held.watches.push((leash, caller));
            }
        }
    }
}

/// Says who was let in with the headers of a request, whose rest can be long in coming.
pub(super) struct Pass {
    access: Arc<Access>,
    caller: Caller,
}

impl Pass {
    /// Whether who was let in would be so now.
    pub(super) fn check(&self) -> Result<(), Status> {
        let checked = self.access.auth().recheck(&self.caller, true, SystemTime::now());
        checked.map_err(|refusal| error::refused(&refusal))
    }
}

impl Held {
    fn recheck(&mut self, auth: Arc<Auth>, now: SystemTime) {
        let tokens = auth.tokens_version();
        let same = |(known, version): &(Arc<Auth>, usize)| Arc::ptr_eq(known, &auth) && *version == tokens;
        let anew = !self.against.as_ref().is_some_and(same);
        self.watches
            .retain(|(leash, caller)| !leash.is_loose() && is_still_good(&auth, leash, caller, anew, now));
        self.against = Some((auth, tokens));
    }
}

/// Whether a watch may go on; if not, it ends.
fn is_still_good(auth: &Auth, leash: &Leash, caller: &Caller, anew: bool, now: SystemTime) -> bool {
    let refused = auth.recheck(caller, anew, now).err();
    let end = refused.map(|refusal| if refusal == Refusal::Expired { End::Expired } else { End::Revoked });
    if let Some(end) = end {
        leash.end(end);
    }
    end.is_none()
}

/// Where a connection comes from, and what it has shown of itself.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// For people.
    pub(super) client: Arc<str>,
    /// From this machine.
    is_local: bool,
    /// The certificate that it came with, which is good.
    certificate: Option<Arc<Certificate>>,
}

impl Origin {
    pub(super) fn tcp(client: SocketAddr) -> Self {
        let is_local = client.ip().to_canonical().is_loopback();
        Self { client: client.to_string().into(), is_local, certificate: None }
    }

    pub(super) fn unix(client: &str) -> Self {
        Self { client: client.into(), is_local: true, certificate: None }
    }

    /// With the certificate of a connection that is secured now.
    pub(super) fn showing(mut self, certificate: Option<&CertificateDer<'_>>) -> Self {
        let certificate = certificate.map(|shown| {
            Arc::new(Certificate { holder: tls::holder(shown), expires: tls::not_after(shown) })
        });
        self.certificate = certificate;
        self
    }
}

//! The servers: the other side of OpFlex, well or badly behaved.

use bytes::Bytes;

use super::{
    wire::{End, Payload},
    world::{Event, World},
};
use crate::opflex::{self, ErrorCode, Message, Method, Raw, Request};

/// Frames that a rude server throws in: legal ones mostly. `N` is the number of our `send_identity`.
const INTERJECTIONS: [&str; 10] = [
    "",
    r#"{"id":["policy_update",7],"method":"policy_update","params":[]}"#,
    r#"{"id":["x",1],"method":"who_knows","params":{}}"#,
    r#"{"id":["echo",900],"result":[1]}"#,
    r#"{"id":["state_report",3],"error":{"code":"ERROR","message":"no"}}"#,
    r#"{"id":["echo",1],"method":"echo"}"#,
    r#"{"id":["send_identity",0],"result":{"peers":[]}}"#,
    r#"{"id":["send_identity",1],"error":{"code":"EDOMAIN"}}"#,
    r#"{"id":["send_identity",1],"result":{"peers":[{"connectivity_info":":1"}]}}"#,
    "\u{1}not JSON",
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Behaviour {
    #[default]
    Normal,
    /// Takes connections and says nothing.
    Silent,
    /// Says nothing once it is identified.
    Mute,
    Reject,
    Garbage,
    /// Closes once it is identified.
    Flap,
    /// Closes every connection at once.
    Slam,
    /// Takes its time to answer the identity, perhaps too much.
    Slow,
    /// Says things nobody asked for.
    Rude,
}

impl Behaviour {
    pub(super) const BAD: [Self; 8] = [
        Self::Silent,
        Self::Mute,
        Self::Reject,
        Self::Garbage,
        Self::Flap,
        Self::Slam,
        Self::Slow,
        Self::Rude,
    ];
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) listening: bool,
    pub(super) powered: bool,
    pub(super) partitioned: bool,
    pub(super) behaviour: Behaviour,
    /// What it lists, if it is not what the others do.
    pub(super) own_list: Option<Vec<usize>>,
    /// Stays well from when calm comes.
    pub(super) good: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listening: true,
            powered: true,
            partitioned: false,
            behaviour: Behaviour::Normal,
            own_list: None,
            good: false,
        }
    }
}

impl Server {
    /// Whether what is sent to it is lost, for now.
    pub(super) const fn unreachable(&self) -> bool {
        !self.powered || self.partitioned
    }
}

impl World {
    pub(super) fn server_gets(&mut self, id: usize, payload: Payload) {
        if !self.conns[id].server_open {
            // Nobody knows of that connection here.
            if self.conns[id].client_open && !matches!(payload, Payload::Rst | Payload::Fin) {
                self.send(id, End::Client, Payload::Rst);
            }
            return;
        }
        match payload {
            Payload::Open => self.server_accepts(id),
            Payload::Frame(frame) => self.server_reads(id, &frame),
            Payload::Fin | Payload::Rst => self.conns[id].server_open = false,
        }
    }

    fn behaviour(&self, conn: usize) -> Behaviour {
        self.servers[self.conns[conn].server].behaviour
    }

    fn server_accepts(&mut self, id: usize) {
        match self.behaviour(id) {
            Behaviour::Slam => self.server_closes(id),
            Behaviour::Silent => {}
            _ => self.server_says_echo(id),
        }
        self.after(self.plan.timers.echo, Event::ServerEchoes(id));
    }

    pub(super) fn server_echoes(&mut self, id: usize) {
        let conn = &self.conns[id];
        if !conn.server_open {
            return;
        }
        let mute = match self.behaviour(id) {
            Behaviour::Silent => true,
            Behaviour::Mute => conn.identified,
            _ => false,
        };
        if !mute {
            self.server_says_echo(id);
        }
        self.interject(id);
        self.after(self.plan.timers.echo, Event::ServerEchoes(id));
    }

    fn server_says_echo(&mut self, id: usize) {
        let number = self.conns[id].echoes;
        self.conns[id].echoes += 1;
        self.server_says(id, &[opflex::echo(number, 0)]);
    }

    fn server_reads(&mut self, id: usize, frame: &Bytes) {
        let message = Message::parse(frame).expect("we speak OpFlex");
        let Message::Request(Request { id: request, method, params }) = message else { return };
        match (self.behaviour(id), method, params) {
            (Behaviour::Silent, Method::SendIdentity, _) => self.conns[id].identity = Some(request),
            (Behaviour::Silent, ..) => {}
            (Behaviour::Mute, ..) if self.conns[id].identified => {}
            (_, Method::Echo, Some(params)) => self.server_says(id, &opflex::result(&request, &params)),
            (behaviour, Method::SendIdentity, _) => {
                self.conns[id].identity = Some(request);
                self.server_meets(id, behaviour);
            }
            _ => self.server_says(id, &opflex::error(&request, ErrorCode::Eunsupported, "what?")),
        }
    }

    /// The client has said who it is.
    fn server_meets(&mut self, id: usize, behaviour: Behaviour) {
        match behaviour {
            Behaviour::Reject => {
                let request = self.conns[id].identity.take().unwrap();
                self.server_says(id, &opflex::error(&request, ErrorCode::Error, "go away"));
            }
            Behaviour::Garbage => self.server_says(id, &[Bytes::from_static(b"this is not JSON\0")]),
            Behaviour::Slow => {
                let wait = self.up_to(self.plan.timers.handshake.mul_f32(1.3));
                self.after(wait, Event::ServerIdentifies(id));
            }
            Behaviour::Flap => {
                self.server_identifies(id);
                self.server_closes(id);
            }
            _ => {
                self.interject(id);
                self.server_identifies(id);
                self.interject(id);
            }
        }
    }

    /// Answers the identity, for the first time or again.
    pub(super) fn server_identifies(&mut self, id: usize) {
        let conn = &self.conns[id];
        let Some(request) = conn.identity.clone().filter(|_| conn.server_open) else { return };
        let list = self.servers[conn.server].own_list.as_ref().unwrap_or(&self.fabric);
        let listed =
            |peer: &usize| serde_json::json!({ "connectivity_info": super::address(*peer).to_string() });
        let peers: Vec<_> = list.iter().map(listed).collect();
        let roles = if list.contains(&conn.server) { vec!["policy_repository"] } else { vec![] };
        let answer = serde_json::json!({ "name": "leaf", "my_role": roles, "peers": peers });
        self.conns[id].identified = true;
        self.server_says(id, &opflex::result(&request, &Raw::encode(&answer)));
    }

    /// Tells all its clients whom it lists now.
    pub(super) fn push_lists(&mut self, server: usize) {
        for id in 0..self.conns.len() {
            if self.conns[id].server == server && self.conns[id].identified {
                self.server_identifies(id);
            }
        }
    }

    fn interject(&mut self, id: usize) {
        if self.behaviour(id) == Behaviour::Rude && self.chance(50) {
            let frame = self.rng.choice(INTERJECTIONS).unwrap();
            self.send(id, End::Client, Payload::Frame(Bytes::from_static(frame.as_bytes())));
        }
    }

    fn server_says(&mut self, id: usize, parts: &[Bytes]) {
        self.send(id, End::Client, Payload::Frame(super::frame(parts)));
    }

    pub(super) fn server_closes(&mut self, id: usize) {
        if std::mem::take(&mut self.conns[id].server_open) {
            let how = if self.rng.bool() { Payload::Fin } else { Payload::Rst };
            self.send(id, End::Client, how);
        }
    }

    /// Its power has gone: nobody is told.
    pub(super) fn forget_conns(&mut self, server: usize) {
        for conn in self.conns.iter_mut().filter(|conn| conn.server == server) {
            conn.server_open = false;
            conn.unsay();
        }
    }

    pub(super) fn server_closes_all(&mut self, server: usize) {
        for id in 0..self.conns.len() {
            if self.conns[id].server == server {
                self.server_closes(id);
            }
        }
    }
}

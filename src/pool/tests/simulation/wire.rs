//! The wire: connections as TCP makes them. What is sent on one arrives in order, late, or not at all; what is
//! sent on two arrives in any order. Either end may be gone without the other knowing.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::world::{Event, World};
use crate::opflex::Raw;

/// The longest that a message is held up while the network works.
pub(super) const STALL: Duration = Duration::from_secs(6);
/// The longest that a machine waits before it sends again what was lost.
pub(super) const RETRANSMIT: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Client,
    Server,
}

#[derive(Clone, Debug)]
pub(super) enum Payload {
    /// The connection is up: what the server sees of the last step of the TCP handshake.
    Open,
    /// Without its NUL.
    Frame(Bytes),
    /// The end, said properly.
    Fin,
    /// The end, said rudely, perhaps by a machine that knows nothing of the connection.
    Rst,
}

/// An attempt to connect.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) session: u64,
    pub(super) server: usize,
    /// How often the request was sent in vain.
    sent: u32,
}

/// A connection, open or not.
#[derive(Debug, Default)]
pub(super) struct Conn {
    pub(super) session: u64,
    pub(super) server: usize,
    pub(super) client_open: bool,
    pub(super) server_open: bool,
    /// Something in between has forgotten it: all that is sent vanishes.
    pub(super) severed: bool,
    /// When a frame last reached the client.
    pub(super) heard: Duration,
    /// The id of the `send_identity` that the server got.
    pub(super) identity: Option<Raw>,
    /// Whether it has answered it.
    pub(super) identified: bool,
    pub(super) echoes: u64,
    to_client: Lane,
    to_server: Lane,
}

/// What is under way in one direction.
#[derive(Debug, Default)]
struct Lane {
    payloads: VecDeque<Payload>,
    last_arrival: Duration,
    /// So many arrivals did not happen: the machine was not reached.
    missed: usize,
}

impl Conn {
    fn lane(&mut self, to: End) -> &mut Lane {
        match to {
            End::Client => &mut self.to_client,
            End::Server => &mut self.to_server,
        }
    }

    /// What the server said and the client has not got will not be said again.
    pub(super) fn unsay(&mut self) {
        self.to_client.payloads.clear();
    }

    /// Whether both ends have it, and what they send arrives.
    pub(super) const fn is_sound(&self) -> bool {
        self.client_open && self.server_open && !self.severed
    }
}

impl World {
    pub(super) fn delay(&mut self) -> Duration {
        if self.calm.is_none() && self.rng.u32(0..1000) < self.plan.stalls_per_mille {
            return self.up_to(STALL);
        }
        let most = self.plan.delay;
        Duration::from_micros(100) + self.up_to(most)
    }

    /// Begins an attempt. What comes of it is told to the session.
    pub(super) fn dial(&mut self, session: u64) {
        let Some(server) = self.session_server(session) else { return };
        let dial = self.next_id();
        self.dials.insert(dial, Dial { session, server, sent: 0 });
        self.dialing(session, dial);
        let delay = self.delay();
        self.after(delay, Event::Syn(dial));
        self.after(self.plan.timers.connect, Event::DialTimeout(dial));
    }

    pub(super) fn syn(&mut self, id: u64) {
        let delay = self.delay();
        let Some(dial) = self.dials.get_mut(&id) else { return };
        let server = &self.servers[dial.server];
        if server.unreachable() {
            let again = Duration::from_secs(1 << dial.sent);
            dial.sent += 1;
            self.after(again, Event::Syn(id));
        } else if server.listening {
            self.after(delay, Event::SynAck(id));
        } else {
            self.after(delay, Event::Refused(id));
        }
    }

    pub(super) fn syn_ack(&mut self, id: u64) {
        let Some(dial) = self.dials.get(&id) else { return };
        if self.servers[dial.server].unreachable() {
            return self.after(Duration::from_secs(1), Event::SynAck(id));
        }
        let Dial { session, server, .. } = self.dials.remove(&id).unwrap();
        let server_open = self.servers[server].listening;
        let heard = self.now;
        let conn = Conn { session, server, heard, client_open: true, server_open, ..Conn::default() };
        self.conns.push(conn);
        let conn = self.conns.len() - 1;
        self.send(conn, End::Server, Payload::Open);
        self.established(session, id, conn);
    }

    pub(super) fn refuse(&mut self, id: u64) {
        if let Some(dial) = self.dials.remove(&id) {
            self.dial_failed(dial.session, id, crate::peer::Reason::ConnectFailed);
        }
    }

    pub(super) fn time_out(&mut self, id: u64) {
        if let Some(dial) = self.dials.remove(&id) {
            self.dial_failed(dial.session, id, crate::peer::Reason::ConnectTimeout);
        }
    }

    pub(super) fn send(&mut self, conn: usize, to: End, payload: Payload) {
        let arrival = self.now + self.delay();
        if self.conns[conn].severed {
            return;
        }
        let lane = self.conns[conn].lane(to);
        lane.payloads.push_back(payload);
        lane.last_arrival = lane.last_arrival.max(arrival);
        let arrival = lane.last_arrival;
        self.at(arrival, Event::Arrival(conn, to));
    }

    pub(super) fn arrive(&mut self, id: usize, end: End) {
        let conn = &mut self.conns[id];
        let lost = self.servers[conn.server].unreachable();
        if lost || conn.severed {
            conn.lane(end).missed += 1;
            return;
        }
        let Some(payload) = conn.lane(end).payloads.pop_front() else { return };
        self.note(|_| format!("    {payload:?}"));
        match end {
            End::Client => self.client_gets(id, payload),
            End::Server => self.server_gets(id, payload),
        }
    }

    fn client_gets(&mut self, id: usize, payload: Payload) {
        let conn = &mut self.conns[id];
        if !conn.client_open {
            return;
        }
        conn.heard = self.now;
        let session = conn.session;
        self.came_in(session, id, payload);
    }

    /// What was lost on the way to or from a machine that can be reached again is sent again.
    pub(super) fn resend(&mut self, server: usize) {
        for id in 0..self.conns.len() {
            if self.conns[id].server != server || self.conns[id].severed {
                continue;
            }
            for end in [End::Client, End::Server] {
                let again = self.now + self.up_to(RETRANSMIT);
                let lane = self.conns[id].lane(end);
                lane.last_arrival = lane.last_arrival.max(again);
                let (arrival, missed) = (lane.last_arrival, std::mem::take(&mut lane.missed));
                for _ in 0..missed {
                    self.at(arrival, Event::Arrival(id, end));
                }
            }
        }
    }
}

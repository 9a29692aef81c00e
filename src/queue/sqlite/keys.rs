//! What a process says of its limits in a turn, and what it is told: see [`crate::share`].
//!
//! ```text
//!   claim ──> reports: record and shares of each key ──> what has changed for others: versions and bells
//!                                                     └─> answers: keys reported, changed since, or awaited
//! ```
//!
//! Must cost one look-up where there is nothing to say and to be told: a turn of a process that is alone on its queue.

use std::collections::HashSet;

use super::batch::Batch;
use super::endings;
use super::fault::{Fault, Worked};
use super::shares::{self, Configurations, Kept, Stamp};
use super::sql::keys as sql;
use crate::job::{LimitKey, Mono};
use crate::queue::store::{MAX_CHANGES_TOLD, Turn};
use crate::share::{
    Claim, KeyAnswer, KeyNews, KeyRecord, KeyReply, KeyReport, SHARE_PERIOD, Scene, Sole, divide,
    state_of, told_by_sole,
};

/// What an owner's turn depends on.
#[derive(Debug, Clone, Copy)]
struct Member {
    is_sole: bool,
    /// The change of what was declared that it was last told of.
    heard: i64,
    /// The last version given to a record.
    version: i64,
    /// The last change of what was declared.
    declared: i64,
    void_at: Option<Mono>,
    /// Whether the times kept are those of an earlier start of the machine.
    stale: bool,
    /// The owner that is the sole one.
    sole: Option<i64>,
    has_others: bool,
}

fn member(batch: &Batch<'_>, owner: i64) -> Worked<Member> {
    let mut statement = batch.conn.prepare_cached(sql::MEMBER)?;
    let mut rows = statement.query([owner])?;
    let Some(row) = rows.next()? else {
        return Err(Fault::Corrupt(format!("the sharing of owner {owner} is missing")));
    };
    Ok(Member {
        is_sole: row.get(0)?,
        heard: row.get(1)?,
        version: row.get(2)?,
        declared: row.get(3)?,
        void_at: row.get::<_, Option<i64>>(4)?.map(shares::mono),
        stale: row.get(5)?,
        sole: row.get(6)?,
        has_others: row.get(7)?,
    })
}

/// A turn's news being taken in.
struct Hearing<'h, 'b> {
    batch: &'h mut Batch<'b>,
    configurations: &'h mut Configurations,
    me: i64,
    news: &'h KeyNews,
    /// The time of the turn.
    stamp: Stamp,
    member: Member,
    /// Who divides by itself, where that is not the one that is heard.
    sole: Sole,
    answers: Vec<KeyAnswer>,
}

/// Takes in what a registered owner says of its limits, and answers it.
pub(super) fn hear(
    batch: &mut Batch<'_>,
    configurations: &mut Configurations,
    turn: &Turn<'_>,
    news: &KeyNews,
) -> Worked<KeyReply> {
    let (me, stamp) = (turn.owner.row, (news.now, turn.now));
    let mut found = member(batch, me)?;
    if found.stale {
        endings::rebase(batch, stamp)?;
        found = member(batch, me)?;
    }
    let (sole, answers) = (Sole::Nobody, Vec::with_capacity(news.reports.len()));
    let mut hearing =
        Hearing { batch, configurations, me, news, stamp, member: found, sole, answers };
    hearing.claim()?;
    for report in &news.reports {
        hearing.take_in(report)?;
    }
    if hearing.member.is_sole && !found.is_sole {
        hearing.keep_shares_of_what_was_said()?;
    }
    if hearing.member.version != found.version {
        hearing.batch.run(sql::SET_VERSION, [hearing.member.version])?;
    }
    let mut told: HashSet<LimitKey> = news.reports.iter().map(|r| r.key.clone()).collect();
    let (version, more) = hearing.tell_changed(&mut told)?;
    hearing.tell_concerned(&mut told)?;
    Ok(KeyReply {
        is_sole: hearing.member.is_sole,
        is_alone: !hearing.member.has_others,
        version,
        more,
        redeclared: found.heard != found.declared,
        answers: hearing.answers,
    })
}

impl Hearing<'_, '_> {
    /// Makes it the sole one, or takes that away.
    fn claim(&mut self) -> Worked<()> {
        let was_sole = self.member.is_sole;
        match self.news.claim {
            Claim::Open if was_sole => {
                self.batch.run(sql::SET_SOLE, (self.me, false))?;
                (self.member.is_sole, self.member.sole) = (false, None);
                self.sole = Sole::WasMe;
            }
            Claim::Close if !was_sole && !self.member.has_others => {
                self.batch.run(sql::SET_SOLE, (self.me, true))?;
                (self.member.is_sole, self.member.sole) = (true, Some(self.me));
            }
            Claim::Open | Claim::Close | Claim::Keep => {}
        }
        if self.member.sole.is_some_and(|sole| sole != self.me) {
            self.sole = Sole::Other;
        }
        Ok(())
    }

    /// The sole one has no shares but what it said of, for people.
    fn keep_shares_of_what_was_said(&mut self) -> Worked<()> {
        let conn = self.batch.conn;
        let said: HashSet<&LimitKey> = self.news.reports.iter().map(|r| &r.key).collect();
        for key in shares::keys(conn, sql::KEYS_OF, [self.me])? {
            if !said.contains(&key) {
                let (dimension, name) = shares::columns(&key);
                self.batch.run(sql::DROP_SHARE, (dimension, name, self.me))?;
            }
        }
        Ok(())
    }

    fn scene(&mut self, key: &LimitKey) -> Worked<Scene> {
        let (conn, declared) = (self.batch.conn, self.member.declared);
        Ok(Scene {
            configured: self.configurations.of(conn, declared, key)?,
            policy: self.news.policy,
            now: self.news.now,
            void_at: self.member.void_at,
            sole: self.sole,
        })
    }

    /// Takes in what is said of one key.
    fn take_in(&mut self, report: &KeyReport) -> Worked<()> {
        let (key, conn) = (&report.key, self.batch.conn);
        let scene = self.scene(key)?;
        let Kept { version, mut record, .. } = shares::kept(conn, key)?;
        let (record_before, before) = (record, shares::shares(conn, key)?);
        let mut after = before.clone();
        let rule = if self.member.is_sole { told_by_sole } else { divide };
        let (answer, divided) = rule(&mut record, &mut after, self.me, report, &scene);
        self.answers.push(answer);
        shares::set_shares(conn, key, &before, &after)?;
        let is_news = divided.changed || divided.noted;
        self.member.version += i64::from(is_news);
        if divided.changed {
            self.batch.ring_others();
        }
        if is_news || record != record_before {
            let version = if is_news { self.member.version } else { version };
            shares::keep(conn, key, &Kept { version, record, stamp: self.stamp })?;
        }
        divided.ring.into_iter().for_each(|owner| self.batch.ring(owner));
        Ok(())
    }

    /// Tells of records that have changed since it was last told, but for those told already. Returns up to which version it
    /// knows them all, and whether there are more.
    fn tell_changed(&mut self, told: &mut HashSet<LimitKey>) -> Worked<(i64, bool)> {
        let known = self.news.known;
        if self.member.version <= known {
            return Ok((known, false));
        }
        let mut statement = self.batch.conn.prepare_cached(sql::CHANGED)?;
        let mut rows = statement.query((known, MAX_CHANGES_TOLD + 1))?;
        let (mut last, mut passed) = (known, 0);
        while let Some(row) = rows.next()? {
            if passed == MAX_CHANGES_TOLD {
                return Ok((last, true));
            }
            (last, passed) = (row.get(2)?, passed + 1);
            let key = shares::key(row)?;
            if told.insert(key.clone()) {
                self.tell(&key, &shares::record(row, 3)?)?;
            }
        }
        Ok((last, false))
    }

    /// Tells of keys that it has something of, where others want some, or what was declared has changed.
    fn tell_concerned(&mut self, told: &mut HashSet<LimitKey>) -> Worked<()> {
        let conn = self.batch.conn;
        let mut keys = Vec::new();
        if self.member.heard != self.member.declared {
            self.batch.run(sql::SET_HEARD, (self.me, self.member.declared))?;
            keys = shares::keys(conn, sql::KEYS_OF, [self.me])?;
        }
        if self.member.has_others {
            let fresh_since = self.news.now.0.saturating_sub(2 * SHARE_PERIOD);
            let fresh_since = shares::mono_column(Mono(fresh_since));
            keys.extend(shares::keys(conn, sql::SLOTS_AWAITED, (self.me, fresh_since))?);
            keys.extend(shares::keys(conn, sql::TOKENS_AWAITED, [self.me])?);
        }
        for key in keys {
            if told.insert(key.clone()) {
                self.tell(&key, &shares::kept(conn, &key)?.record)?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, key: &LimitKey, record: &KeyRecord) -> Worked<()> {
        let scene = self.scene(key)?;
        let shares = shares::shares(self.batch.conn, key)?;
        self.answers.push(state_of(key, record, &shares, self.me, &scene));
        Ok(())
    }
}

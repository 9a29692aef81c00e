//! The half of the receiver that deals with what was kept of a body that broke off: keeping it, finding it again, and
//! putting the rest behind it. What makes that safe is said in [`resume`](super::resume).

use std::io::{self, Seek, SeekFrom};

use ureq::Body;
use ureq::http::header;
use ureq::http::response::Parts;

use super::classify::{self, Content};
use super::content_range::{self, ContentRange};
use super::download::{Arrival, Offer, Received, Receiver, Writing, cut, is_cancelled, text_of};
use super::inspect::{self, CHUNK_BYTES};
use super::resume::{DIGEST_DIGITS, MIN_PARTIAL_BYTES, Partial};
use super::source::Encoding;
use super::transfer::drain;
use super::verdict::{Fault, UrlId};
use crate::handler::Context;

impl Receiver<'_> {
    /// The answer to a request for the rest.
    pub(super) fn receive_rest(
        &self,
        parts: &Parts,
        body: Body,
        partial: &Partial,
        offer: &Offer<'_>,
        context: &Context<'_>,
    ) -> Result<Received, Fault> {
        let headers = &parts.headers;
        let declared = body.content_length();
        let total = match partial.continues_in(headers, declared) {
            Ok(total) => total,
            Err(why) => {
                self.resumable.distrust(offer.host());
                self.discard_partial();
                return Ok(cut(why));
            }
        };
        let rest = total.or(declared.map(|declared| partial.bytes.saturating_add(declared)));
        self.check_declared(rest)?;
        let mut transfer = self.transfer(body, Encoding::Identity, context);
        let Some((writing, content)) = self.reopen(&mut transfer.chunk, partial, offer)? else {
            return Ok(cut("what was kept of it is gone"));
        };
        transfer.kept_bytes = partial.bytes;
        let arrival = Arrival {
            content,
            etag: Some(partial.etag.clone()),
            last_modified: text_of(headers, header::LAST_MODIFIED),
            validator: Some(partial.etag.clone()),
            total,
            kept_bytes: partial.bytes,
        };
        self.write(transfer, writing, 0, arrival, offer, context)
    }

    /// The answer that there is nothing after what was kept: so that is the file, if it is as long.
    pub(super) fn receive_no_more(
        &self,
        parts: &Parts,
        body: Body,
        partial: &Partial,
        offer: &Offer<'_>,
    ) -> Result<Received, Fault> {
        drain(body);
        let range = text_of(&parts.headers, header::CONTENT_RANGE);
        let total = match range.as_deref().and_then(content_range::parse) {
            Some(ContentRange::Unsatisfied { total }) => Some(total),
            Some(ContentRange::Part { .. }) | None => None,
        };
        if total != Some(partial.bytes) {
            if total.is_some() && partial.total.is_some() && total != partial.total {
                self.resumable.distrust(offer.host());
            }
            self.discard_partial();
            return Ok(cut("the server has fewer bytes than it sent before"));
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        let Some((writing, content)) = self.reopen(&mut chunk, partial, offer)? else {
            return Ok(cut("what was kept of it is gone"));
        };
        let arrival = Arrival {
            content,
            etag: Some(partial.etag.clone()),
            last_modified: text_of(&parts.headers, header::LAST_MODIFIED),
            validator: None,
            total,
            kept_bytes: partial.bytes,
        };
        self.finish(writing, arrival, offer)
    }

    /// Keeps what arrived, where that is worth it and safe.
    pub(super) fn keep(
        &self,
        fault: &Fault,
        writing: Writing,
        arrival: &Arrival,
        offer: &Offer<'_>,
        context: &Context<'_>,
    ) -> Option<Partial> {
        let may_pass = match fault {
            Fault::Candidate(verdict) => verdict.passing,
            Fault::Attempt(_) => is_cancelled(context),
            Fault::Machine(_) => false,
        };
        let bytes = writing.inspection.bytes();
        let etag = arrival.validator.clone()?;
        if !may_pass || bytes < MIN_PARTIAL_BYTES || !self.resumable.is_trusted(offer.host()) {
            return None;
        }
        let mut digest = writing.inspection.sha256_so_far();
        digest.truncate(DIGEST_DIGITS);
        self.out.keep_partial(self.name, writing.file).ok()?;
        self.may_have_partial.set(true);
        Some(Partial { url: UrlId::of(offer.url), etag, bytes, total: arrival.total, digest })
    }

    /// What was kept, hashed again and ready to be appended to; `None` when it is not those bytes any more.
    fn reopen(
        &self,
        chunk: &mut [u8],
        partial: &Partial,
        offer: &Offer<'_>,
    ) -> Result<Option<(Writing, Content)>, Fault> {
        let trouble = |error: io::Error| self.trouble(&error);
        let Some(mut file) = self.out.reopen_partial(self.name).map_err(trouble)? else {
            return Ok(None);
        };
        let mut inspection = self.inspection(offer);
        let mut content = None;
        while inspection.bytes() < partial.bytes {
            let left = usize::try_from(partial.bytes - inspection.bytes()).unwrap_or(usize::MAX);
            let room = left.min(chunk.len());
            let read = inspect::fill(file.as_file_mut(), &mut chunk[..room]).map_err(trouble)?;
            if read == 0 {
                break;
            }
            content.get_or_insert_with(|| classify::sniff(&chunk[..read]));
            inspection.update(&chunk[..read]);
        }
        if !inspection.sha256_so_far().starts_with(&partial.digest) {
            return Ok(None);
        }
        // A process that died while it went on left more than it could note.
        file.as_file().set_len(partial.bytes).map_err(trouble)?;
        file.as_file_mut().seek(SeekFrom::Start(partial.bytes)).map_err(trouble)?;
        Ok(content.map(|content| (Writing { file, inspection }, content)))
    }
}

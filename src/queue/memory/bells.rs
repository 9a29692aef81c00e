//! Pipes that tell other handles of work. Must never block whoever rings.

use std::io::{self, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

/// The writing ends, by owner.
#[derive(Default)]
pub(super) struct Bells {
    hung: Mutex<Vec<(i64, Arc<PipeWriter>)>>,
}

impl Bells {
    /// A new bell for `owner`; its reading end.
    pub(super) fn hang(&self, owner: i64) -> io::Result<OwnedFd> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        self.hung.lock().push((owner, Arc::new(writer)));
        Ok(reader.into())
    }

    /// Rings every bell but those of `except`.
    pub(super) fn ring(&self, except: Option<i64>) {
        self.ring_where(|owner| Some(owner) != except);
    }

    /// Rings the bells of the owners that `hears` says.
    pub(super) fn ring_where(&self, hears: impl Fn(i64) -> bool) {
        let hung = self.hung.lock().clone();
        for (_, bell) in hung.iter().filter(|(owner, _)| hears(*owner)) {
            // A full pipe is readable already, and a closed one has nobody to tell.
            let _ = (&**bell).write(&[1]);
        }
    }

    /// Keeps only the bells of these owners.
    pub(super) fn keep(&self, owners: &[i64]) {
        self.hung.lock().retain(|(owner, _)| owners.contains(owner));
    }
}

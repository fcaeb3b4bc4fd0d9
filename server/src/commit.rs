//! Is everything there that a commit names?
//!
//! A commit may name a hundred gigabytes, of which a suspend changes little, so the parent's part of it is not looked
//! at again. That is safe by induction over this invariant: *every leaf and chunk that a committed version names is
//! in the store, and stays there as long as the version does* (chunks are never changed, and only garbage collection
//! may remove them, never those of a version that is kept; the parent of a commit is the last version, which is kept).
//! So only leaves that differ from the parent's leaf at the same place are read, and of those only the names that
//! the parent's leaf lacks are looked for.

use crate::{
    refusal::{Code, Refusal},
    store::{Shelf, Store, StoreError},
};
use futures::{StreamExt, TryStreamExt, stream};
use parcel::{
    id::ChunkName,
    keyring::{ImageKind, PublicLeaf},
    record::Public,
};
use std::collections::HashSet;

/// Leaves that are checked at the same time.
const AT_ONCE: usize = 4;
/// Missing names that a refusal tells.
const TOLD: usize = 5;

/// What stands in the way of a commit.
pub(crate) enum Obstacle {
    /// To be told to the client.
    Refused(Refusal),
    /// The store fails.
    Store(StoreError),
}

impl From<StoreError> for Obstacle {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

#[derive(Default)]
struct Missing {
    count: usize,
    first: Vec<ChunkName>,
}

impl Missing {
    fn add(&mut self, names: impl IntoIterator<Item = ChunkName>) {
        for name in names {
            self.count += 1;
            if self.first.len() < TOLD {
                self.first.push(name);
            }
        }
    }
}

/// Looks on the parcel's `shelf` for everything that `version` names and its committed `parent` does not.
pub(crate) async fn check(
    store: &dyn Store,
    shelf: Shelf,
    version: &Public,
    parent: Option<&Public>,
) -> Result<(), Obstacle> {
    let mut changed = Vec::new();
    for image in &version.images {
        let old = parent.and_then(|parent| parent.image(image.kind));
        for (index, leaf) in image.leaves.iter().enumerate() {
            let old = old.and_then(|old| old.leaves.get(index).copied().flatten());
            if let Some(leaf) = leaf
                && old != Some(*leaf)
            {
                changed.push((image.kind, index, *leaf, old));
            }
        }
    }
    let mut checks = stream::iter(changed)
        .map(|(kind, index, leaf, old)| check_leaf(store, shelf, kind, index, leaf, old))
        .buffered(AT_ONCE);
    let mut missing = Missing::default();
    while let Some(names) = checks.try_next().await? {
        missing.add(names);
    }
    if missing.count == 0 {
        return Ok(());
    }
    let first = missing.first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = if missing.count > missing.first.len() { " and others" } else { "" };
    Err(Obstacle::Refused(Refusal::new(
        Code::MissingObjects,
        format!(
            "The commit of version {} names {} objects that the server does not have ({first}{more}); nothing was changed. \
             Send them and commit again.",
            version.version, missing.count
        ),
    )))
}

/// The names that are missing of a new leaf: itself, or chunks.
async fn check_leaf(
    store: &dyn Store,
    shelf: Shelf,
    kind: ImageKind,
    index: usize,
    leaf: ChunkName,
    old: Option<ChunkName>,
) -> Result<Vec<ChunkName>, Obstacle> {
    // A leaf whose directory entry may not last yet does not count: `have` knows, reading does not.
    let there = store.have(shelf, vec![leaf]).await?;
    let bytes = match store.chunk(shelf, leaf).await? {
        Some(bytes) if there == [true] => bytes,
        _ => return Ok(vec![leaf]),
    };
    let read = PublicLeaf::read(&bytes).map_err(|e| bad_leaf(kind, index, &leaf, &e))?;
    if read.image != kind || usize::try_from(read.index) != Ok(index) {
        let text = format!("it is leaf {} of {:?}", read.index, read.image);
        return Err(bad_leaf(kind, index, &leaf, &text));
    }
    let mut known = HashSet::new();
    if let Some(old) = old {
        // The parent's leaf only saves work; if it cannot be read, the work is done.
        let old = store.chunk(shelf, old).await?.and_then(|bytes| PublicLeaf::read(&bytes).ok());
        known.extend(old.into_iter().flat_map(|old| old.names).flatten());
    }
    let mut names: Vec<_> = read.names.into_iter().flatten().filter(|name| !known.contains(name)).collect();
    names.sort_unstable();
    names.dedup();
    let there = store.have(shelf, names.clone()).await?;
    Ok(names.into_iter().zip(there).filter(|(_, there)| !there).map(|(name, _)| name).collect())
}

fn bad_leaf(kind: ImageKind, index: usize, leaf: &ChunkName, why: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::Refused(Refusal::new(
        Code::BadRecord,
        format!("The commit names {leaf} as leaf {index} of image {kind:?}, but {why}; nothing was changed."),
    ))
}

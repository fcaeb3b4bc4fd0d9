//! A file tree in memory: what an unpacked package holds, and what the initrd will.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Most links followed for one path.
const LINKS: usize = 16;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File(Arc<[u8]>),
    /// A symbolic link.
    Link(String),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// A path's content and rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, such as `0o755`.
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
}

/// A tree. Paths have no leading or trailing slash; the root itself is not listed.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Sets a path, with root as owner, making the folders above it.
    pub fn put(&mut self, path: &str, mode: u32, kind: Kind) {
        self.put_owned(path, Node { kind, mode, uid: 0, gid: 0 });
    }

    /// Sets a path, making the folders above it.
    pub fn put_owned(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            let folder = Node { kind: Kind::Folder, mode: 0o755, uid: 0, gid: 0 };
            self.nodes.entry(path[..at].to_owned()).or_insert(folder);
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Sets a file.
    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Arc<[u8]>>) {
        self.put(path, mode, Kind::File(bytes.into()));
    }

    /// Sets a folder.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.put(path, mode, Kind::Folder);
    }

    /// Sets a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.put(path, 0o777, Kind::Link(target.to_owned()));
    }

    /// What stands at exactly this path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path.trim_matches('/'))
    }

    /// Every path and what stands there, sorted; a folder comes before what it holds.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Paths that begin with `prefix`, sorted.
    pub fn below(&self, prefix: &str) -> impl Iterator<Item = (&str, &Node)> {
        let prefix = prefix.to_owned();
        self.nodes
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, node)| (path.as_str(), node))
    }

    /// The files' bytes in all.
    pub fn bytes(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| match &node.kind {
                Kind::File(bytes) => bytes.len() as u64,
                _ => 0,
            })
            .sum()
    }

    /// Follows links from a path: every link on the way, then the file at the end. `None` when there is no file.
    pub fn resolve(&self, path: &str) -> Option<(Vec<String>, Arc<[u8]>)> {
        let mut at = path.trim_matches('/').to_owned();
        let mut way = Vec::new();
        for _ in 0..LINKS {
            way.push(at.clone());
            match &self.get(&at)?.kind {
                Kind::File(bytes) => return Some((way, bytes.clone())),
                Kind::Link(target) => at = join(&at, target),
                _ => return None,
            }
        }
        None
    }

    /// Copies a path and everything that its links lead to from another tree; `false` when there is no file.
    pub fn copy_resolved(&mut self, from: &Tree, path: &str) -> bool {
        let Some((way, _)) = from.resolve(path) else { return false };
        for path in way {
            if let Some(node) = from.get(&path) {
                self.put_owned(&path, node.clone());
            }
        }
        true
    }

    /// Adds everything of another tree; what is there already is replaced.
    pub fn merge(&mut self, other: Tree) {
        for (path, node) in other.nodes {
            let folder_stays = matches!(node.kind, Kind::Folder) && self.nodes.contains_key(&path);
            if !folder_stays {
                self.put_owned(&path, node);
            }
        }
    }
}

/// The path that a link at `from` to `target` means, in the merged-/usr form.
fn join(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    usr_merged(&parts.join("/"))
}

/// Some of Debian's packages name `/bin`, `/sbin`, `/lib` and `/lib64`, which are links into `/usr` on every installed system.
pub fn usr_merged(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    for top in ["bin", "sbin", "lib", "lib64"] {
        if path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')) {
            return format!("usr/{path}");
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_through_merged_folders() {
        let mut tree = Tree::default();
        tree.file("usr/bin/kmod", 0o755, *b"kmod");
        tree.link("usr/sbin/modprobe", "/bin/kmod");
        tree.link("usr/sbin/insmod", "../bin/kmod");
        for path in ["usr/sbin/modprobe", "usr/sbin/insmod"] {
            let (way, bytes) = tree.resolve(path).unwrap();
            assert_eq!(way, [path, "usr/bin/kmod"]);
            assert_eq!(&*bytes, b"kmod");
        }
    }

    #[test]
    fn loops_and_ends_in_nothing_are_not_files() {
        let mut tree = Tree::default();
        tree.link("a", "b");
        tree.link("b", "a");
        tree.link("c", "nowhere");
        tree.folder("d", 0o755);
        for path in ["a", "c", "d", "e"] {
            assert_eq!(tree.resolve(path), None, "{path}");
        }
    }

    #[test]
    fn folders_above_are_made_and_come_first() {
        let mut tree = Tree::default();
        tree.file("a/b/c", 0o644, *b"");
        let paths: Vec<_> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"]);
    }

    #[test]
    fn only_whole_names_are_merged_into_usr() {
        assert_eq!(usr_merged("./lib/x"), "usr/lib/x");
        assert_eq!(usr_merged("/lib64"), "usr/lib64");
        assert_eq!(usr_merged("library/x"), "library/x");
        assert_eq!(usr_merged("usr/lib/x"), "usr/lib/x");
    }
}

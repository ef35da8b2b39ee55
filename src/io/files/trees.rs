//! The trees of the files that this node sends, so that it need not read a file again for each transfer.

use std::sync::{Arc, Mutex, PoisonError};

use p2p_node_core::file_io::FileHash;
use p2p_node_wire::lru_map::LruMap;

use super::content::Tree;

/// Limit of the bytes of all trees: our choice, the trees of 32 GiB. At the limit the node forgets the tree that
/// it used least recently, and reads its file again when a peer asks for it.
pub const MAX_TREE_BYTES: usize = 32 << 20;

/// The trees, by the hashes of their files.
#[derive(Debug, Default)]
pub struct Trees(Mutex<LruMap<FileHash, Arc<Tree>>>);

impl Trees {
    /// Returns the tree of a file.
    pub fn get(&self, hash: &FileHash) -> Option<Arc<Tree>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).touch(hash).cloned()
    }

    /// Keeps a tree, and forgets others if there are too many.
    pub fn insert(&self, tree: Tree) -> Arc<Tree> {
        let tree = Arc::new(tree);
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trees.insert(*tree.root.as_bytes(), Arc::clone(&tree));
        let mut bytes: usize = trees.values().map(|tree| tree.data.len()).sum();
        while bytes > MAX_TREE_BYTES
            && trees.len() > 1
            && let Some((oldest, tree)) = trees.oldest()
        {
            bytes -= tree.data.len();
            let oldest = *oldest;
            trees.remove(&oldest);
        }
        tree
    }
}

#[cfg(test)]
mod tests {
    use bao_tree::{BaoTree, BlockSize};

    use super::*;

    fn tree(number: u8, bytes: usize) -> Tree {
        let tree = BaoTree::new(0, BlockSize::from_chunk_log(6));
        Tree { root: blake3::Hash::from_bytes([number; 32]), tree, data: vec![0; bytes] }
    }

    #[test]
    fn trees_beyond_the_limit_push_out_those_not_used() {
        let trees = Trees::default();
        for number in 0..4 {
            trees.insert(tree(number, MAX_TREE_BYTES / 4));
        }
        assert!(trees.get(&[0; 32]).is_some());
        trees.insert(tree(4, MAX_TREE_BYTES / 4));
        let kept: Vec<bool> = (0..5).map(|number| trees.get(&[number; 32]).is_some()).collect();
        assert_eq!(kept, [true, false, true, true, true]);
        trees.insert(tree(5, 2 * MAX_TREE_BYTES));
        assert!(trees.get(&[5; 32]).is_some(), "a tree that is larger than the limit stays alone");
        assert!(trees.get(&[4; 32]).is_none());
    }
}

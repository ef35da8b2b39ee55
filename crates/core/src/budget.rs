//! A budget: how many items a collection holds, how many bytes they take, and its limit for both.

/// The number and the bytes of the items of one collection, or of one owner's items in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    count: usize,
    bytes: usize,
}

/// The largest number and the largest total size, in bytes, of the items of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Number of items.
    pub count: usize,
    /// Bytes of all items.
    pub bytes: usize,
}

impl Budget {
    /// Returns the number of items.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the bytes of all items.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns `true` if there are no items.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns `true` if one more item of this size keeps within the limit.
    pub fn fits(&self, bytes: usize, limit: Limit) -> bool {
        self.count < limit.count && self.bytes + bytes <= limit.bytes
    }

    /// Returns `true` if the items exceed the limit. A collection that takes one item more than its
    /// limit, to tell its owner to stop, is over then.
    pub fn is_over(&self, limit: Limit) -> bool {
        self.count > limit.count || self.bytes > limit.bytes
    }

    /// Adds an item of this size.
    pub fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// Removes an item of this size, which must have been added.
    pub fn remove(&mut self, bytes: usize) {
        self.remove_all(1, bytes);
    }

    /// Removes several items, which must have been added. `bytes` is their total size.
    pub fn remove_all(&mut self, count: usize, bytes: usize) {
        self.count -= count;
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Limit = Limit { count: 3, bytes: 100 };

    proptest! {
        #[test]
        fn items_that_fit_never_exceed_the_limit_and_are_all_given_back(sizes in prop::collection::vec(0..60_usize, 0..20)) {
            let mut budget = Budget::default();
            let fitting = |size: &usize| {
                let fits = budget.fits(*size, LIMIT);
                if fits {
                    budget.add(*size);
                }
                fits
            };
            let added: Vec<usize> = sizes.into_iter().filter(fitting).collect();
            prop_assert!(!budget.is_over(LIMIT));
            prop_assert_eq!((budget.count(), budget.bytes()), (added.len(), added.iter().sum()));
            added.into_iter().for_each(|size| budget.remove(size));
            prop_assert!(budget.is_empty() && budget == Budget::default());
        }
    }

    #[test]
    fn one_item_more_than_the_limit_is_over() {
        let mut budget = Budget::default();
        (0..3).for_each(|_| budget.add(1));
        assert!(!budget.is_over(LIMIT) && !budget.fits(0, LIMIT));
        budget.add(1);
        assert!(budget.is_over(LIMIT));
        let mut budget = Budget::default();
        budget.add(101);
        assert!(budget.is_over(LIMIT));
    }
}

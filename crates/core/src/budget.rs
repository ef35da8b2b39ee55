//! A budget: how many items a collection holds, how many bytes they take, and its limit for both.

use std::collections::VecDeque;
use std::iter::Sum;
use std::ops::{AddAssign, SubAssign};

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

/// Returns what one user of a shared budget may hold: so many times as much as is free. So a user alone takes
/// `times / (times + 1)` of it, and some stays free for others, who then get as much. (Choudhury and Hahne's
/// dynamic threshold for shared packet buffers.)
pub(crate) fn share_of_free(limit: usize, used: usize, times: usize) -> usize {
    limit.saturating_sub(used).saturating_mul(times)
}

impl Budget {
    /// Returns the budget of `count` items that take `bytes` in total.
    pub fn of(count: usize, bytes: usize) -> Self {
        Budget { count, bytes }
    }

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
        self.fits_all(Budget::of(1, bytes), limit)
    }

    /// Returns `true` if these items too keep within the limit.
    pub fn fits_all(&self, more: Budget, limit: Limit) -> bool {
        !(*self + more).is_over(limit)
    }

    /// Returns `true` if the items have reached the limit. This holds for a collection whose last
    /// item may exceed the limit.
    pub fn is_full(&self, limit: Limit) -> bool {
        self.count >= limit.count || self.bytes >= limit.bytes
    }

    /// Returns `true` if the items exceed the limit. This holds for a collection that accepts one
    /// item above its limit and then stops its owner.
    pub fn is_over(&self, limit: Limit) -> bool {
        self.count > limit.count || self.bytes > limit.bytes
    }

    /// Adds an item of this size.
    pub fn add(&mut self, bytes: usize) {
        *self += Budget::of(1, bytes);
    }

    /// Removes an item of this size, which must have been added.
    pub fn remove(&mut self, bytes: usize) {
        *self -= Budget::of(1, bytes);
    }
}

impl std::ops::Add for Budget {
    type Output = Budget;

    fn add(self, more: Budget) -> Budget {
        Budget::of(self.count + more.count, self.bytes + more.bytes)
    }
}

impl AddAssign for Budget {
    fn add_assign(&mut self, more: Budget) {
        *self = *self + more;
    }
}

/// Removes items, which must have been added.
impl SubAssign for Budget {
    fn sub_assign(&mut self, gone: Budget) {
        self.count -= gone.count;
        self.bytes -= gone.bytes;
    }
}

impl Sum for Budget {
    fn sum<I: Iterator<Item = Budget>>(budgets: I) -> Self {
        budgets.fold(Budget::default(), |sum, budget| sum + budget)
    }
}

/// Returns the budget of items of these sizes.
impl FromIterator<usize> for Budget {
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Self {
        sizes.into_iter().map(|size| Budget::of(1, size)).sum()
    }
}

/// An item of a [`BudgetedQueue`].
pub trait Weigh {
    /// Returns the size of the item, in bytes. The size must not change while the item is queued.
    fn weight(&self) -> usize;
}

/// A queue that keeps the budget of its items.
#[derive(Debug)]
pub struct BudgetedQueue<T> {
    items: VecDeque<T>,
    budget: Budget,
}

impl<T> Default for BudgetedQueue<T> {
    fn default() -> Self {
        BudgetedQueue { items: VecDeque::new(), budget: Budget::default() }
    }
}

impl<T: Weigh> BudgetedQueue<T> {
    /// Returns the number and the bytes of the items.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns `true` if there are no items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the items in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// Returns the first item.
    pub fn first(&self) -> Option<&T> {
        self.items.front()
    }

    /// Returns the item at this index.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.items.get(index)
    }

    /// Appends an item.
    pub fn push(&mut self, item: T) {
        self.budget.add(item.weight());
        self.items.push_back(item);
    }

    /// Puts an item before all others.
    pub fn push_first(&mut self, item: T) {
        self.budget.add(item.weight());
        self.items.push_front(item);
    }

    /// Removes and returns the first item.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front();
        self.without(item)
    }

    /// Removes and returns the item at this index.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        let item = self.items.remove(index);
        self.without(item)
    }

    /// Removes and returns the items for which `is_gone` returns `true`.
    pub fn remove_where(&mut self, is_gone: impl FnMut(&T) -> bool) -> Vec<T> {
        let (gone, remaining) = self.items.drain(..).partition::<Vec<_>, _>(is_gone);
        self.items = remaining.into();
        self.budget -= gone.iter().map(T::weight).collect();
        gone
    }

    /// Removes and returns all items.
    pub fn take(&mut self) -> VecDeque<T> {
        self.budget = Budget::default();
        std::mem::take(&mut self.items)
    }

    fn without(&mut self, item: Option<T>) -> Option<T> {
        self.budget -= item.iter().map(T::weight).collect();
        item
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Limit = Limit { count: 3, bytes: 100 };

    /// The items of these tests are their own sizes.
    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    proptest! {
        #[test]
        fn budget_of_fitting_items_stays_within_limit_and_returns_to_zero(sizes in prop::collection::vec(0..60_usize, 0..20)) {
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
            prop_assert_eq!(budget, added.iter().copied().collect());
            prop_assert_eq!((budget.count(), budget.bytes()), (added.len(), added.iter().sum()));
            added.into_iter().for_each(|size| budget.remove(size));
            prop_assert!(budget.is_empty() && budget == Budget::default());
        }

        #[test]
        fn queue_budget_equals_sum_of_items(
            calls in prop::collection::vec((0..6_u8, 0..9_usize), 0..60),
        ) {
            let (mut queue, mut list) = (BudgetedQueue::default(), Vec::new());
            for (call, number) in calls {
                let remove = |list: &mut Vec<usize>, at: usize| (at < list.len()).then(|| list.remove(at));
                match call {
                    0 | 1 => {
                        queue.push(number);
                        list.push(number);
                    }
                    2 => {
                        queue.push_first(number);
                        list.insert(0, number);
                    }
                    3 => prop_assert_eq!(queue.pop(), remove(&mut list, 0)),
                    4 => prop_assert_eq!(queue.remove(number), remove(&mut list, number)),
                    _ => {
                        let gone: Vec<usize> = list.extract_if(.., |size| *size == number).collect();
                        prop_assert_eq!(queue.remove_where(|size| *size == number), gone);
                    }
                }
                prop_assert_eq!(queue.iter().collect::<Vec<_>>(), list.iter().collect::<Vec<_>>());
                prop_assert_eq!(queue.budget(), list.iter().copied().collect());
                prop_assert_eq!((queue.first(), queue.get(1)), (list.first(), list.get(1)));
            }
            prop_assert_eq!(queue.take(), list);
            prop_assert!(queue.is_empty() && queue.budget() == Budget::default());
        }
    }

    #[test]
    fn budget_with_one_item_above_limit_is_over() {
        let mut budget = Budget::default();
        (0..3).for_each(|_| budget.add(1));
        assert!(!budget.is_over(LIMIT) && !budget.fits(0, LIMIT) && budget.is_full(LIMIT));
        budget.add(1);
        assert!(budget.is_over(LIMIT));
        let mut budget = Budget::default();
        budget.add(100);
        assert!(budget.is_full(LIMIT) && !budget.is_over(LIMIT));
        budget.add(1);
        assert!(budget.is_over(LIMIT));
    }

    #[test]
    fn several_items_fit_only_as_a_whole() {
        let budget = Budget::of(1, 40);
        assert!(budget.fits_all(Budget::of(2, 60), LIMIT));
        assert!(!budget.fits_all(Budget::of(3, 0), LIMIT) && !budget.fits_all(Budget::of(1, 61), LIMIT));
    }
}

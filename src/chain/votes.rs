//! The answers of several servers to the same questions, and what enough of them say.

/// The answers of several servers to the same questions.
#[derive(Debug)]
pub(super) struct Votes<T> {
    quorum: usize,
    voters: usize,
    /// For each question, the different answers with their numbers.
    by_question: Vec<Vec<(T, usize)>>,
}

impl<T: Clone + PartialEq> Votes<T> {
    pub(super) fn new(questions: usize, quorum: usize) -> Self {
        Votes { quorum, voters: 0, by_question: vec![Vec::new(); questions] }
    }

    /// Counts the answers of a server. It abstains where it has `None`.
    pub(super) fn add(&mut self, answers: Vec<Option<T>>) {
        self.voters += 1;
        for (known, answer) in self.by_question.iter_mut().zip(answers) {
            let Some(answer) = answer else { continue };
            match known.iter_mut().find(|(known, _)| *known == answer) {
                Some((_, number)) => *number += 1,
                None => known.push((answer, 1)),
            }
        }
    }

    fn winner(&self, answers: &[(T, usize)]) -> Option<T> {
        answers.iter().find(|(_, number)| *number >= self.quorum).map(|(answer, _)| answer.clone())
    }

    /// Returns `true` if so many servers answered that the outcome may count.
    pub(super) fn are_enough(&self) -> bool {
        self.voters >= self.quorum
    }

    /// Returns `true` if no further answer changes the outcome.
    pub(super) fn are_decided(&self) -> bool {
        self.are_enough() && self.by_question.iter().all(|answers| self.winner(answers).is_some())
    }

    /// Returns the answer to each question: `None` where too few servers agree.
    pub(super) fn outcome(&self) -> Vec<Option<T>> {
        self.by_question.iter().map(|answers| self.winner(answers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_servers_than_the_quorum_decide_about_no_question() {
        let mut votes = Votes::new(2, 2);
        votes.add(vec![Some(true), Some(true)]);
        assert_eq!((votes.outcome(), votes.are_decided()), (vec![None, None], false));
        // The second server agrees about the first question only.
        votes.add(vec![Some(true), Some(false)]);
        assert_eq!((votes.outcome(), votes.are_decided()), (vec![Some(true), None], false));
        votes.add(vec![None, Some(false)]);
        assert_eq!(votes.outcome(), [Some(true), Some(false)]);
        assert!(votes.are_decided());
    }
}

//! The stacks of a running script.

use super::num::cast_to_bool;
use super::{ScriptError, ScriptNum};
use std::borrow::Cow;

/// One stack element: borrowed from the script or witness that pushed it as long as nothing computes on it.
pub type Element<'a> = Cow<'a, [u8]>;

/// The stack that scripts of one input run on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack<'a>(Vec<Element<'a>>);

impl<'a> Stack<'a> {
    /// A stack of these elements, the last on top.
    pub fn new(elements: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(elements.into_iter().map(Cow::Borrowed).collect())
    }

    /// The elements, the top one last.
    pub fn elements(&self) -> &[Element<'a>] {
        &self.0
    }

    /// The top element.
    pub fn last(&self) -> Option<&[u8]> {
        self.0.last().map(|element| &**element)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is a top element and it is true.
    pub(crate) fn top_is_true(&self) -> bool {
        self.last().is_some_and(cast_to_bool)
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// Fails unless there are `count` elements.
    pub(crate) fn require(&self, count: usize) -> Result<(), ScriptError> {
        if self.0.len() < count { Err(ScriptError::InvalidStackOperation) } else { Ok(()) }
    }

    /// The element `depth` below the top, which is at 0.
    pub(crate) fn peek(&self, depth: usize) -> Result<&[u8], ScriptError> {
        Ok(&self.0[self.index(depth)?])
    }

    pub(crate) fn number(&self, depth: usize, minimal: bool) -> Result<i64, ScriptError> {
        Ok(ScriptNum::decode(self.peek(depth)?, minimal, ScriptNum::MAX_SIZE)?.0)
    }

    pub(crate) fn push(&mut self, element: impl Into<Element<'a>>) {
        self.0.push(element.into());
    }

    pub(crate) fn push_bool(&mut self, value: bool) {
        self.0.push(Cow::Borrowed(if value { &[1] } else { &[] }));
    }

    pub(crate) fn push_number(&mut self, value: i64) {
        match value {
            0 => self.push_bool(false),
            1 => self.push_bool(true),
            _ => self.push(ScriptNum(value).encode()),
        }
    }

    pub(crate) fn pop(&mut self) -> Result<Element<'a>, ScriptError> {
        self.0.pop().ok_or(ScriptError::InvalidStackOperation)
    }

    /// Removes the top `count` elements.
    pub(crate) fn drop(&mut self, count: usize) -> Result<(), ScriptError> {
        self.require(count)?;
        self.0.truncate(self.0.len() - count);
        Ok(())
    }

    /// Pushes copies of the `count` elements of which the lowest is `depth` below the top.
    pub(crate) fn copy(&mut self, depth: usize, count: usize) -> Result<(), ScriptError> {
        let start = self.index(depth)?;
        self.0.extend_from_within(start..start + count);
        Ok(())
    }

    /// Moves the `count` elements of which the lowest is `depth` below the top onto the top.
    pub(crate) fn roll(&mut self, depth: usize, count: usize) -> Result<(), ScriptError> {
        let start = self.index(depth)?;
        self.0[start..].rotate_left(count);
        Ok(())
    }

    /// Removes the element `depth` below the top.
    pub(crate) fn remove(&mut self, depth: usize) -> Result<(), ScriptError> {
        let index = self.index(depth)?;
        self.0.remove(index);
        Ok(())
    }

    /// Inserts a copy of the top element below the one that is `depth` below the top.
    pub(crate) fn tuck(&mut self, depth: usize) -> Result<(), ScriptError> {
        let index = self.index(depth)?;
        let top = self.0[self.0.len() - 1].clone();
        self.0.insert(index, top);
        Ok(())
    }

    fn index(&self, depth: usize) -> Result<usize, ScriptError> {
        self.0.len().checked_sub(depth + 1).ok_or(ScriptError::InvalidStackOperation)
    }
}

/// The nested IF branches: Core's `ConditionStack`. Only whether all are taken can be observed, so their number and the
/// first one not taken are enough, and toggling is constant time however deep.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    depth: usize,
    first_false: Option<usize>,
}

impl Conditions {
    pub(crate) fn is_empty(&self) -> bool {
        self.depth == 0
    }

    pub(crate) fn all_true(&self) -> bool {
        self.first_false.is_none()
    }

    pub(crate) fn push(&mut self, value: bool) {
        if !value && self.first_false.is_none() {
            self.first_false = Some(self.depth);
        }
        self.depth += 1;
    }

    pub(crate) fn pop(&mut self) -> Result<(), ScriptError> {
        self.depth = self.depth.checked_sub(1).ok_or(ScriptError::UnbalancedConditional)?;
        if self.first_false == Some(self.depth) {
            self.first_false = None;
        }
        Ok(())
    }

    pub(crate) fn toggle_top(&mut self) -> Result<(), ScriptError> {
        let top = self.depth.checked_sub(1).ok_or(ScriptError::UnbalancedConditional)?;
        match self.first_false {
            None => self.first_false = Some(top),
            Some(first) if first == top => self.first_false = None,
            Some(_) => {}
        }
        Ok(())
    }
}

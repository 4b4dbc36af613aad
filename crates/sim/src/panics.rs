//! Panics, which are failures of the world that runs on their thread.

use std::{
    any::Any,
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From here on panics are kept, with the place where they happened, and not printed.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!(" [{}:{}]", at.file(), at.line()));
        let text = format!("{}{}", words_of(info.payload()), place.unwrap_or_default());
        PANICS.with(|panics| panics.borrow_mut().push(text));
    }));
}

/// The first of the panics on this thread since [`caught`] began, if they are kept: one that somebody else has caught as well.
pub fn first_panic() -> Option<String> {
    PANICS.with(|panics| panics.borrow().first().cloned())
}

/// What comes of this on this thread.
///
/// # Errors
/// What the first panic in it says.
pub fn caught<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    PANICS.with(|panics| panics.borrow_mut().clear());
    let result = catch_unwind(AssertUnwindSafe(what));
    match (first_panic(), result) {
        (Some(first), _) => Err(first),
        (None, result) => result.map_err(|payload| words_of(&*payload)),
    }
}

fn words_of(payload: &dyn Any) -> String {
    match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (None, Some(text)) => (*text).to_owned(),
        (None, None) => "a panic without words".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_panic_tells_also_when_something_else_has_caught_it() {
        keep_panics();
        assert_eq!(caught(|| 7), Ok(7));
        let told: Result<(), String> = caught(|| {
            assert!(catch_unwind(|| panic!("the {}", "cause")).is_err());
            panic!("what came of it")
        });
        assert!(told.as_ref().is_err_and(|told| told.starts_with("the cause [")), "{told:?}");
        let told = caught(|| catch_unwind(|| panic!("overheard")).is_err());
        assert!(told.as_ref().is_err_and(|told| told.starts_with("overheard [")), "{told:?}");
        assert_eq!(caught(|| 8), Ok(8), "it is over");
    }
}

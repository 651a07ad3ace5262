//! The scripts that Redis runs, each as a whole.
//! Does not know who runs them.

use redis::Script;

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(include_str!("lua/common.lua"), include_str!($name)))
    };
}

/// Each by its file's name in `lua/`, where its arguments and answer are told.
pub(super) struct Scripts {
    pub(super) add_session: Script,
    pub(super) append: Script,
    pub(super) beat: Script,
    pub(super) change: Script,
    pub(super) history: Script,
    pub(super) keep_sessions: Script,
    pub(super) move_session: Script,
    pub(super) reap: Script,
    pub(super) rotate: Script,
    pub(super) save_session: Script,
    pub(super) sync: Script,
    pub(super) take: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            add_session: script!("lua/add_session.lua"),
            append: script!("lua/append.lua"),
            beat: script!("lua/beat.lua"),
            change: script!("lua/change.lua"),
            history: script!("lua/history.lua"),
            keep_sessions: script!("lua/keep_sessions.lua"),
            move_session: script!("lua/move_session.lua"),
            reap: script!("lua/reap.lua"),
            rotate: script!("lua/rotate.lua"),
            save_session: script!("lua/save_session.lua"),
            sync: script!("lua/sync.lua"),
            take: script!("lua/take.lua"),
        }
    }
}

//! What Redis does in one step. Each script asks for keys of one slot. Does not know who runs them.

/// Enters a session: `first` whatever is there, `any` unless it is another's, `own` if it is there
/// and ours. 1: it is entered; 0: it is another's; -1: it is not there.
pub(super) const ENTER: &str = "\
    if ARGV[2]~='first' then \
    local o=redis.call('GETRANGE',KEYS[1],0,15) \
    if o=='' then if ARGV[2]=='own' then return -1 end \
    elseif o~=ARGV[1] then return 0 end end \
    redis.call('SET',KEYS[1],ARGV[3],'PX',ARGV[4]) return 1";

/// Lets a session go, if it is ours.
pub(super) const FORGET: &str = "\
    if redis.call('GETRANGE',KEYS[1],0,15)==ARGV[1] then redis.call('DEL',KEYS[1]) end return -2";

/// As `ENTER` of one that lived, of one that has ended.
pub(super) const KEEP: &str = "\
    local o=redis.call('GETRANGE',KEYS[1],0,15) \
    if o=='' then if ARGV[2]=='own' then return -1 end \
    elseif o~=ARGV[1] then return 0 end \
    redis.call('DEL',KEYS[1]) redis.call('SET',KEYS[2],ARGV[3],'PX',ARGV[4]) return 1";

/// Takes a session away, if it still is what was seen.
pub(super) const TAKE: &str = "\
    if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end \
    return redis.call('DEL',KEYS[1])";

/// Changes a session that is ours, so that nobody can take what was seen before.
pub(super) const CLAIM: &str = "\
    local o=redis.call('GETRANGE',KEYS[1],0,15) \
    if o=='' then return -1 elseif o~=ARGV[1] then return 0 end \
    redis.call('SETRANGE',KEYS[1],16,ARGV[2]) return 1";

/// Renews a lease, and tells what was left of it.
pub(super) const RENEW: &str = "\
    local left=redis.call('PTTL',KEYS[1]) \
    redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) return left";

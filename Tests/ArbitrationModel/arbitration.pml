/* Who may run a VM, and which output may leave: the arbitration and the output commit of Romulus.
 *
 * Two hosts and an arbiter. What is checked is numbered as in docs/INVARIANTS.md; `MUST(3, ...)` is I3. How it is run
 * and what is left out: README.md. `IS(RELEASE_BEFORE_ACK)` is true only while that mistake is planted.
 *
 * Messages are never taken away. What was once sent can arrive at any later time, in any order, twice, or never:
 * - A session's checkpoints are first[s]...last[s], the first of them a whole image; a standby may be handed any.
 * - Acknowledgements are cumulative: a primary may hear of any up to ack[s], at any time.
 * - A request to the arbiter that expects the present term may take effect at any time, also long after its sender
 *   gave up or restarted. One that expects an older term can never do so; all are forgotten when the term moves on.
 * - An answer is a look at the register, at any time after the request took effect, or never.
 *
 * A host that does nothing for long is stalled, partitioned or switched off: so a crash and the restart after it are
 * one step. Timers do not appear: what a timer would start may happen at any time.
 */
#ifndef TERMS                   /* a run gives all of these or none */
#define TERMS 5                 /* bounds */
#define EPOCHS 3
#define SESSIONS 3              /* at most 5 */
#define POWER 1                 /* how often a host loses power and boots */
#define RESTART 1               /* an agent dies and starts again, its QEMU lives on */
#define DEATH 0                 /* a QEMU dies under its agent */
#define DROP 0                  /* a standby loses its image, and knows it */
#define GONE 0                  /* a host is lost for good */
#define FAULTS 9                /* the five above together */
#define SWITCH 0                /* the operator asks for a switchover */
#define UNPAIRED 0              /* 1: begin in mode SOLO, 0: in mode PAIRED */
#define HEALTHY 0               /* 1: timers fire for a reason only, and service must come back */
#define OUTSIDE 0               /* 1: check only what a client could notice, I2, I3 and I4 */
#define PROBE 0                 /* claim number so and so, that something cannot happen; it must be refuted */
#define MISTAKE 0               /* plant this one */
#endif

#define IS(mistake) (MISTAKE == mistake)
#define RELEASE_BEFORE_ACK 1
#define SOLO_WITHOUT_CAS 2
#define TAKEOVER_WITHOUT_CAS 3
#define PAIRED_BEFORE_HOLDING 4
#define FREE_WITHOUT_BURN 5
#define TIMEOUT_IS_SUCCESS 6
#define STALE_TERM_ACCEPTED 7
#define NO_INCARNATION_CHECK 8
#define SEEN_TERM_NOT_ON_DISK 9
#define RESTART_WITHOUT_CLAIM 10
#define CAS_ON_OWNER 11
#define ACK_AFTER_RESUME 12
#define WITNESS_AMNESIA 13
#define ACK_BEFORE_HOLDING 14
#define LOSS_KEEPS_INCARNATION 15
#define RESUME_KEEPS_IMAGE 16
#define FENCE_LEAVES_QEMU 17
#define SOLO_EXPIRES 18
#define LATE_ANSWER_BELIEVED 19
#define OLD_SESSION_ACCEPTED 20
#define NEVER_ALONE 21          /* these two stop service: only HEALTHY runs notice */
#define NEVER_CLAIM 22

/* The number of a broken invariant is in spin's message, as (i==0). */
#define MUST(i, holds) assert((holds) || i == 0)
#define INSIDE(i, holds) assert((holds) || OUTSIDE || i == 0)
#define PROBED(i, happens) assert(PROBE != i || !(happens))

/* The register, as the log of all its values: at term t, log[t] is 8 * (who asked) + what: 1...5 is mode PAIRED with
 * that session (and the incarnation it is bound to), TOOK and ALONE are mode SOLO, by takeover or by the owner. */
#define TOOK 6
#define ALONE 7
byte log[TERMS + 1];
byte term;
byte wanted[2];              /* requests that expect `term`: bit w is what `log` would say */

#define OWNER(t) (log[t] >> 3)
#define WHAT(t) (log[t] & 7)
#define SOLO(t) (WHAT(t) >= TOOK)
#define PAIRED(t) (WHAT(t) > 0 && WHAT(t) < TOOK)
#define BIT(w) (1 << (w))

/* Sessions are numbered in the order in which they are opened. */
byte sessions;
bit from[6];                 /* the primary */
byte under[6];               /* its term then */
byte bound[6];               /* the standby's incarnation (I13) */
byte first[6], last[6], ack[6];

/* A host. Epoch n is the guest's execution up to checkpoint n, whose state contains all output up to n. */
mtype = { ADOPT, RUN, NONE, HOLD, OFF };
mtype role[2];               /* just started; primary; standby without and with an image; lost for good */
bit qemu[2];                 /* a QEMU runs the guest here */
byte pos[2];                 /* the guest's epoch in it */
bit free[2];                 /* its output flows; otherwise it is held */
bit asked[2];                /* a request of this life that expects `seen` and is not the owner's going alone is out */
bit still[2];                /* the guest is stopped for a switchover, its last epoch acknowledged */
byte current[2];             /* the primary's session, 0 for none */
byte released[2];            /* the newest epoch whose output the primary let out */
byte seen[2];                /* on disk: the highest term seen; log[seen] is what the host knows of the register */
byte incarnation[2];         /* on disk */
byte image[2], session[2];   /* the image's epoch, 0 for none, and its session: survive the agent, not the host */

/* What only the checks know. */
byte out;                    /* the newest epoch of the guest's one history whose output left */
byte limit[2];               /* the epoch at which another instance took over from this host's, or NEVER */
#define NEVER 255
byte takeovers;
byte left[6];                /* of POWER, RESTART, DEATH, DROP, GONE, SWITCH */
byte faults = FAULTS;

#define P (1 - n)            /* the peer */
#define MINE (log[seen[n]] > 0 && OWNER(seen[n]) == n)
#define THEIRS (log[seen[n]] > 0 && OWNER(seen[n]) == P)
#define NEWS (seen[n] < term)
#define CAN_ASK(w) (seen[n] == term && term < TERMS && !(wanted[n] & BIT(w)))
#define WITH_STANDBY (current[n] && MINE && PAIRED(seen[n]) && bound[current[n]] == bound[WHAT(seen[n])])
#define FAULT(i) (left[i] > 0 && faults > 0 && role[n] != OFF)

/* What makes a timer fire in a HEALTHY run; in the others it fires at any time. */
#define PEER_FAILS (!HEALTHY || role[P] == OFF || role[P] == ADOPT || incarnation[P] != bound[current[n]] || \
    (under[current[n]] < seen[P] && ack[current[n]] == 0))
#define PRIMARY_FAILS (!HEALTHY || role[P] == OFF || role[P] == ADOPT || still[P])
#define PEER_READY (!HEALTHY || role[P] == NONE)

inline release(e) {
    INSIDE(1, (free[n] && OWNER(term) == n && SOLO(term)) || (!free[n] && e <= ack[current[n]]));
    MUST(2, e <= out || MINE);
    MUST(4, e <= limit[n]);
    released[n] = e;
    if :: e > out -> out = e :: else fi
}

inline go_free() {
    free[n] = 1; current[n] = 0; still[n] = 0;
    MUST(2, !free[P]);
    release(pos[n])
}

/* The agent's memory, and with it everything that it holds. */
inline forget() { free[n] = 0; current[n] = 0; asked[n] = 0; still[n] = 0; released[n] = 0 }

/* I13: whoever dropped or lost an image is another incarnation. */
inline lose_image() {
    if :: image[n] && !IS(LOSS_KEEPS_INCARNATION) -> incarnation[n]++ :: else fi;
    image[n] = 0; session[n] = 0
}

inline resume() {
    MUST(3, image[n] >= out);
    MUST(3, !still[P] || image[n] == pos[P]);
    INSIDE(15, !qemu[n]);
    takeovers++;
    PROBED(1, true); PROBED(2, takeovers == 2); PROBED(3, still[P]);
    if :: qemu[P] && limit[P] > image[n] -> limit[P] = image[n] :: else fi;
    limit[n] = NEVER;
    forget();
    role[n] = RUN; qemu[n] = 1; pos[n] = image[n];
    if :: !IS(RESUME_KEEPS_IMAGE) -> lose_image() :: else fi;
    go_free()
}

/* I15: a deposed host's QEMU is gone before the host offers itself as a standby. */
inline fence() {
    if :: !IS(FENCE_LEAVES_QEMU) -> qemu[n] = 0; pos[n] = 0; limit[n] = NEVER :: else fi;
    forget();
    role[n] = (image[n] -> HOLD : NONE)
}

inline acknowledge(s) {
    INSIDE(5, role[n] != RUN);
    INSIDE(13, bound[s] == incarnation[n]);
    INSIDE(6, session[n] == s && image[n] >= ack[s]);
    ack[s] = (ack[s] > image[n] -> ack[s] : image[n])
}

inline ask(w) { wanted[n] = wanted[n] | BIT(w) }

/* What a running primary does with a register that is newer than the one it knew. */
inline primary_learns() {
    seen[n] = term; asked[n] = 0;
    if
    :: OWNER(term) == P -> fence()
    :: OWNER(term) == n && SOLO(term) -> go_free()
    :: OWNER(term) == n && PAIRED(term) ->
        free[n] = 0;
        PROBED(4, takeovers == 1); PROBED(5, PAIRED(term - 1) && WHAT(term - 1) != WHAT(term))
    fi
}

/* I13, I11: an image is for this incarnation, of a term not below any seen, and, within one term, of a session newer
 * than the image's: I7, the old image stands until the new one is whole. */
#define FOR_ME(s) (bound[s] == incarnation[n] || IS(NO_INCARNATION_CHECK))
#define FRESH(s) (under[s] > seen[n] || (under[s] == seen[n] && (s > session[n] || IS(OLD_SESSION_ACCEPTED))) || \
    (under[s] < seen[n] && IS(STALE_TERM_ACCEPTED)))
#define ELIGIBLE (PAIRED(seen[n]) && bound[WHAT(seen[n])] == incarnation[n] && session[n] >= WHAT(seen[n]))
#define STANDBY (role[n] == NONE || role[n] == HOLD)
#define TAKE_IN(s) d_step { \
    STANDBY && s <= sessions && from[s] == P && FOR_ME(s) && FRESH(s) -> \
    INSIDE(15, !qemu[n]); \
    if :: under[s] > seen[n] -> seen[n] = under[s] :: else fi; \
    role[n] = HOLD; image[n] = first[s]; session[n] = s; acknowledge(s) }

proctype Host(bit n) {
end:
    do
    /* Primary: the guest runs. */
    :: d_step { role[n] == RUN && free[n] && pos[n] < EPOCHS -> pos[n]++; release(pos[n]) }
    :: d_step { role[n] == RUN && !free[n] && current[n] && !still[n] && pos[n] < EPOCHS ->
        pos[n]++; last[current[n]] = pos[n] }

    /* I1: acknowledged by the incarnation that the register names as the standby. */
    :: d_step { role[n] == RUN && !free[n] && WITH_STANDBY && ack[current[n]] > released[n] ->
        release(ack[current[n]]) }
    :: d_step { IS(RELEASE_BEFORE_ACK) && role[n] == RUN && !free[n] && WITH_STANDBY && pos[n] > released[n] ->
        release(pos[n]) }

    /* Primary: pair. The first checkpoint is sealed in a pause from which on output is held. */
    :: d_step { role[n] == RUN && MINE && sessions < SESSIONS && PEER_READY && (free[n] ||
            (PAIRED(seen[n]) && !still[n] && (current[n] == 0 || PEER_FAILS))) ->
        sessions++; current[n] = sessions;
        free[n] = free[n] && IS(PAIRED_BEFORE_HOLDING);
        from[sessions] = n; under[sessions] = seen[n]; bound[sessions] = incarnation[P];
        first[sessions] = pos[n]; last[sessions] = pos[n] }
    :: d_step { role[n] == RUN && MINE && current[n] && ack[current[n]] && CAN_ASK(current[n]) &&
            (SOLO(seen[n]) || bound[current[n]] != bound[WHAT(seen[n])]) ->
        ask(current[n]); asked[n] = 1 }
    /* Called off: as before while nothing was asked (I12), afterwards only by a request that burns the term. */
    :: d_step { role[n] == RUN && !free[n] && MINE && SOLO(seen[n]) && PEER_FAILS &&
            (!asked[n] || IS(FREE_WITHOUT_BURN)) -> asked[n] = 0; go_free() }

    /* Primary: go on alone, or burn. */
    :: d_step { !IS(NEVER_ALONE) && role[n] == RUN && !free[n] && MINE && (PAIRED(seen[n]) || asked[n]) && PEER_FAILS &&
            CAN_ASK(ALONE) -> ask(ALONE) }
    :: d_step { IS(SOLO_WITHOUT_CAS) && role[n] == RUN && !free[n] && MINE && PAIRED(seen[n]) -> go_free() }
    :: d_step { IS(TIMEOUT_IS_SUCCESS) && role[n] == RUN && !free[n] && (wanted[n] & BIT(ALONE)) -> go_free() }
    :: d_step { IS(LATE_ANSWER_BELIEVED) && role[n] == RUN && !free[n] && seen[n] > 1 &&
            log[seen[n] - 1] == 8 * n + ALONE -> go_free() }
    :: d_step { role[n] == RUN && NEWS -> primary_learns() }

    /* Primary: a switchover, and calling it off. The standby then takes over like at any other time. */
    :: d_step { left[5] && role[n] == RUN && !free[n] && !still[n] && WITH_STANDBY && ack[current[n]] == pos[n] ->
        left[5]--; still[n] = 1 }
    :: d_step { still[n] && PEER_FAILS -> still[n] = 0 }

    /* Standby: a whole image, then one epoch after the other. Held is acknowledged (I6). */
    :: TAKE_IN(1) :: TAKE_IN(2) :: TAKE_IN(3) :: TAKE_IN(4) :: TAKE_IN(5)
    :: d_step { role[n] == HOLD && image[n] < last[session[n]] -> image[n]++; acknowledge(session[n]) }
    :: d_step { IS(ACK_BEFORE_HOLDING) && role[n] == HOLD && ack[session[n]] < last[session[n]] -> ack[session[n]]++ }
    :: d_step { IS(ACK_AFTER_RESUME) && role[n] == RUN && from[sessions] == P && ack[sessions] &&
            ack[sessions] < last[sessions] ->
        INSIDE(5, false); ack[sessions]++ }

    /* Standby: take over. I16: only from a pair, and only as the incarnation that is named, or with an image newer
     * than the pair's session. */
    :: d_step { role[n] == HOLD && THEIRS && PRIMARY_FAILS && CAN_ASK(TOOK) &&
            (ELIGIBLE || (SOLO(seen[n]) && IS(SOLO_EXPIRES))) -> ask(TOOK) }
    :: d_step { IS(TAKEOVER_WITHOUT_CAS) && role[n] == HOLD && THEIRS && ELIGIBLE -> resume() }
    :: d_step { STANDBY && NEWS ->
        seen[n] = term;
        if
        :: OWNER(term) == n && role[n] == HOLD -> resume()
        :: OWNER(term) == n && role[n] == NONE -> role[n] = ADOPT
        :: else
        fi }

    /* Just started: hold everything, claim (I14). A host that is not the owner ends what runs and is a standby. */
    :: d_step { role[n] == ADOPT && THEIRS -> fence() }
    :: d_step { IS(SEEN_TERM_NOT_ON_DISK) && role[n] == ADOPT && !qemu[n] && image[n] -> role[n] = HOLD }
    :: d_step { !IS(NEVER_CLAIM) && role[n] == ADOPT && MINE && SOLO(seen[n]) && (qemu[n] || image[n]) &&
            CAN_ASK(ALONE) ->
        ask(ALONE); asked[n] = 1 }
    :: d_step { !IS(NEVER_CLAIM) && role[n] == ADOPT && MINE && PAIRED(seen[n]) && qemu[n] && CAN_ASK(WHAT(seen[n])) ->
        ask(WHAT(seen[n])); asked[n] = 1 }
    :: d_step { IS(RESTART_WITHOUT_CLAIM) && role[n] == ADOPT && MINE && SOLO(seen[n]) && qemu[n] ->
        role[n] = RUN; go_free() }
    :: d_step { role[n] == ADOPT && NEWS ->
        if
        :: asked[n] && OWNER(term) == n && qemu[n] ->
            INSIDE(14, limit[n] == NEVER);
            PROBED(6, true);
            role[n] = RUN; primary_learns()
        :: asked[n] && OWNER(term) == n && SOLO(term) && !qemu[n] && image[n] -> seen[n] = term; resume()
        :: else -> seen[n] = term; asked[n] = 0
        fi }

    /* Faults. What is on disk stays: seen, incarnation. */
    :: d_step { FAULT(0) -> left[0]--; faults--;
        forget(); role[n] = ADOPT; qemu[n] = 0; pos[n] = 0; limit[n] = NEVER;
        lose_image() }
    :: d_step { FAULT(1) && role[n] != ADOPT -> left[1]--; faults--;
        seen[n] = (IS(SEEN_TERM_NOT_ON_DISK) -> 0 : seen[n]);
        forget(); role[n] = ADOPT }
    :: d_step { FAULT(2) && role[n] == RUN -> left[2]--; faults--;
        forget(); role[n] = ADOPT; qemu[n] = 0; pos[n] = 0; limit[n] = NEVER }
    :: d_step { FAULT(3) && role[n] == HOLD -> left[3]--; faults--;
        role[n] = NONE; lose_image() }
    :: d_step { FAULT(4) -> left[4]--; faults--;
        forget(); role[n] = OFF; qemu[n] = 0; pos[n] = 0; image[n] = 0; session[n] = 0 }
    :: d_step { IS(FENCE_LEAVES_QEMU) && STANDBY && qemu[n] && pos[n] < EPOCHS -> pos[n]++; release(pos[n]) }
    od
}

/* A compare-and-set on the term: of all that expect it, at most one takes effect, and none later. */
#define EXPECTED(n, w) (!IS(CAS_ON_OWNER) || (w == TOOK -> OWNER(term) != n : OWNER(term) == n))
#define FORGET(n) wanted[n] = (IS(CAS_ON_OWNER) -> wanted[n] : 0)
#define APPLY(n, w) d_step { \
    (wanted[n] & BIT(w)) && term < TERMS && EXPECTED(n, w) -> \
    INSIDE(16, w != TOOK || (PAIRED(term) && OWNER(term) != n)); \
    INSIDE(11, log[term + 1] == 0); \
    wanted[n] = wanted[n] & (255 - BIT(w)); FORGET(0); FORGET(1); term++; log[term] = 8 * n + w }

proctype Arbiter() {
end:
    do
    :: APPLY(0, 1) :: APPLY(0, 2) :: APPLY(0, 3) :: APPLY(0, 4) :: APPLY(0, 5) :: APPLY(0, TOOK) :: APPLY(0, ALONE)
    :: APPLY(1, 1) :: APPLY(1, 2) :: APPLY(1, 3) :: APPLY(1, 4) :: APPLY(1, 5) :: APPLY(1, TOOK) :: APPLY(1, ALONE)
    :: d_step { IS(WITNESS_AMNESIA) && term > 1 -> term--; wanted[0] = 0; wanted[1] = 0 }
    od
}

#if HEALTHY
/* Every run is finite, because every step changes what is bounded. Where it ends the guest has let out all its output,
 * or no host is left that may run it. */
#define ALIVE(n) (qemu[n] || (image[n] && ((OWNER(term) == n && SOLO(term)) || \
    (OWNER(term) != n && PAIRED(term) && bound[WHAT(term)] == incarnation[n]))))
active proctype Healed() {
end:
    timeout -> assert(out == EPOCHS || (FAULTS + SWITCH > 1 && !ALIVE(0) && !ALIVE(1)))
}
#endif

init {
    d_step {
        left[0] = POWER; left[1] = RESTART; left[2] = DEATH; left[3] = DROP; left[4] = GONE; left[5] = SWITCH;
        limit[0] = NEVER; limit[1] = NEVER; incarnation[0] = 1; incarnation[1] = 1;
        term = 1; seen[0] = 1; seen[1] = 1;
        role[0] = RUN; qemu[0] = 1; pos[0] = 1; released[0] = 1; out = 1;
#if UNPAIRED
        log[1] = ALONE; free[0] = 1; role[1] = NONE
#else
        log[1] = 1; current[0] = 1; sessions = 1; under[1] = 1; bound[1] = 1; first[1] = 1; last[1] = 1; ack[1] = 1;
        role[1] = HOLD; image[1] = 1; session[1] = 1
#endif
    }
    atomic { run Host(0); run Host(1); run Arbiter() }
}

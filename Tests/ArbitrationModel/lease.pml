/* Who may run a VM at the levels whose output is not held: the lease, the wait and the restart.
 *
 * Two hosts and an arbiter, as in arbitration.pml, whose macros and ways these are; what is checked is numbered as in
 * docs/INVARIANTS.md. There is no clock. What counts is what came before what: a lease has the term that the register was at
 * when its question was asked, its `era`. It may run out at any time; and when the wait for a win is over, whatever was asked
 * before that win has run out. That this is so is arithmetic about clocks (docs/GATE.md); that it is enough is checked here.
 */
#ifndef TERMS
#define TERMS 6
#define RESTART 2               /* an agent dies and starts again, its QEMU and the kernel's gate live on */
#define DEATH 1                 /* a QEMU dies, and that is proven */
#define FENCE 1                 /* a host is switched off for who took over */
#define PROBE 0
#define MISTAKE 0
#endif

#define IS(m) (MISTAKE == m)
#define NO_WAIT 31
#define NO_CONFIRMATION 32
#define LEASE_FROM_ANSWER 33
#define ANY_ANSWER 34
#define STALE_READING 35
#define PROMISE_AFTER_ASKING 36
#define RESTART_SKIPS_WAIT 37
#define RESTART_WITHOUT_PROOF 38
#define FENCED_ON_PAPER 39
#define PAIRED_WITHOUT_GATE 40
#define FREE_ON_UNKNOWN 41

#define MUST(i, holds) assert((holds) || i == 0)
#define PROBED(i, happens) assert(PROBE != i || !(happens))

/* The register: log[t] is 4 * owner + what. */
#define PAIR 1                  /* the other host is the standby */
#define ALONE 2
#define TOOK 3
byte log[TERMS + 1];
byte term;
byte wanted[2];                 /* requests that expect `term`: bit w is what `log` would say */
#define OWNER(t) (log[t] >> 2)
#define WHAT(t) (log[t] & 3)
#define PAIRED(t) (WHAT(t) == PAIR)

mtype = { RUN, NONE, HOLD, ASKED, WAIT };
mtype role[2];                  /* owner with a guest; standby without and with disks; it asked to take over; it won */
byte seen[2];                   /* the term that is known */
bit qemu[2];                    /* a guest runs here */
bit dead[2];                    /* it died here, by proof, and is to be started here */
bit free[2];                    /* no gate stands before it: only where SOLO is known */
byte gate[2];                   /* 0 when it is shut, else the era of the lease that opens it */
byte question[2], reply[2];     /* the era of the newest question; of one that was answered with this host's name */
bit waited[2], confirmed[2];    /* who won: the wait is over; the register named it since */
byte left[3];                   /* of RESTART, DEATH, FENCE */

#define P (1 - n)
#define NEWS (seen[n] < term)
#define CAN_ASK(w) (seen[n] == term && term < TERMS && !(wanted[n] & (1 << w)))
#define SENDS(n) (qemu[n] && (free[n] || gate[n]))

inline ask(w) { wanted[n] = wanted[n] | (1 << w) }

/* I26 */
inline judge() { MUST(26, !(SENDS(0) && SENDS(1))) }

inline learn() { seen[n] = term; reply[n] = 0; confirmed[n] = 0 }

inline be_deposed() { learn(); free[n] = 0; gate[n] = 0; qemu[n] = 0; dead[n] = 0; question[n] = 0; role[n] = NONE }

/* Whatever was asked before the win has run out: a lease counts from its question (I27). */
inline run_out() {
    if :: gate[P] && gate[P] < seen[n] -> gate[P] = 0 :: else fi;
    if
    :: !IS(LEASE_FROM_ANSWER) && reply[P] && reply[P] < seen[n] -> reply[P] = 0
    :: else
    fi;
    if
    :: !IS(LEASE_FROM_ANSWER) && question[P] && question[P] < seen[n] -> question[P] = 0
    :: else
    fi
}

proctype Host(bit n) {
end:
    do
    /* The lease: questions, answers that may be late, and an end at any time. */
    :: d_step { role[n] == RUN || role[n] == WAIT -> question[n] = term }
    :: d_step { question[n] && !reply[n] && OWNER(term) == n && seen[n] == term -> reply[n] = question[n] }
    :: d_step { IS(STALE_READING) && question[n] && !reply[n] && term > 1 && OWNER(term - 1) == n && seen[n] == term - 1 ->
        reply[n] = question[n] }
    :: d_step { role[n] == RUN && question[n] && !reply[n] && seen[P] == seen[n] &&
            (role[P] == HOLD || (role[P] == ASKED && IS(PROMISE_AFTER_ASKING))) ->
        reply[n] = question[n] }
    :: d_step { role[n] == RUN && (reply[n] || (IS(NO_CONFIRMATION) && question[n])) ->
        gate[n] = (IS(LEASE_FROM_ANSWER) -> term : (IS(ANY_ANSWER) || !reply[n] -> question[n] : reply[n]));
        reply[n] = 0; judge() }
    :: d_step { role[n] == WAIT && reply[n] -> reply[n] = 0; confirmed[n] = 1 }
    :: d_step { gate[n] -> gate[n] = 0 }

    /* The owner: pair, once a lease opens the gate; go on alone; learn what came of it (I36, I12). */
    :: d_step { role[n] == RUN && qemu[n] && free[n] && gate[n] && CAN_ASK(PAIR) ->
        free[n] = IS(PAIRED_WITHOUT_GATE); ask(PAIR) }
    :: d_step { role[n] == RUN && !free[n] && CAN_ASK(ALONE) -> ask(ALONE) }
    :: d_step { IS(FREE_ON_UNKNOWN) && role[n] == RUN && !free[n] && (wanted[n] & (1 << ALONE)) -> free[n] = 1; judge() }
    :: d_step { role[n] == RUN && NEWS && OWNER(term) == P -> be_deposed() }
    :: d_step { role[n] == RUN && NEWS && OWNER(term) == n && PAIRED(term) -> learn() }
    :: d_step { role[n] == RUN && NEWS && OWNER(term) == n && !PAIRED(term) ->
        learn(); free[n] = 1;
        /* A guest that died here is started again under a confirmation of this term, and needs no wait. */
        if :: dead[n] -> role[n] = WAIT; waited[n] = 1 :: else fi;
        judge() }

    /* The standby: told of the pair, it may take over; what it wins it waits for. */
    :: d_step { (role[n] == NONE || role[n] == HOLD) && NEWS && OWNER(term) == P && PAIRED(term) ->
        learn(); role[n] = HOLD }
    :: d_step { (role[n] == HOLD || role[n] == ASKED) && PAIRED(term) && OWNER(term) == P && CAN_ASK(TOOK) ->
        role[n] = ASKED; ask(TOOK) }
    :: d_step { role[n] == ASKED && NEWS && OWNER(term) == P -> learn(); role[n] = (PAIRED(term) -> ASKED : NONE) }
    :: d_step { (role[n] == NONE || role[n] == ASKED || role[n] == HOLD) && term > 1 && OWNER(term) == n &&
            !PAIRED(term) ->
        learn(); role[n] = WAIT; waited[n] = IS(NO_WAIT) }
    :: d_step { role[n] == WAIT && !waited[n] -> waited[n] = 1; run_out() }
    :: d_step { role[n] == WAIT && !waited[n] && left[2] ->
        left[2]--; waited[n] = 1;
        if
        :: !IS(FENCED_ON_PAPER) ->
            qemu[P] = 0; gate[P] = 0; free[P] = 0; dead[P] = 0; question[P] = 0; reply[P] = 0;
            role[P] = (role[P] == RUN -> NONE : role[P])
        :: else
        fi }
    :: d_step { IS(RESTART_WITHOUT_PROOF) && role[n] == WAIT && !waited[n] && CAN_ASK(ALONE) -> ask(ALONE) }
    :: d_step { role[n] == WAIT && NEWS ->
        if
        :: OWNER(term) == P -> be_deposed()
        :: else -> learn(); waited[n] = waited[n] || IS(RESTART_WITHOUT_PROOF)
        fi }
    :: d_step { role[n] == WAIT && waited[n] && confirmed[n] ->
        PROBED(1, !dead[n] && left[2] == FENCE); PROBED(2, dead[n]); PROBED(3, left[2] < FENCE);
        role[n] = RUN; qemu[n] = 1; dead[n] = 0; free[n] = 1; waited[n] = 0; confirmed[n] = 0;
        judge() }

    /* Faults. A gate that stands lives on without its agent, and so does a guest without one. */
    :: d_step { left[0] && role[n] == RUN -> left[0]--; question[n] = 0; reply[n] = 0 }
    :: d_step { left[0] && role[n] == WAIT && !dead[n] -> left[0]--;
        question[n] = 0; reply[n] = 0; confirmed[n] = 0; waited[n] = IS(RESTART_SKIPS_WAIT) }
    :: d_step { left[0] && (role[n] == HOLD || role[n] == ASKED) -> left[0]--; role[n] = ASKED }
    :: d_step { left[1] && role[n] == RUN && qemu[n] -> left[1]--; qemu[n] = 0; dead[n] = 1; free[n] = 0 }
    od
}

#define APPLY(n, w) d_step { \
    (wanted[n] & (1 << w)) && term < TERMS -> \
    wanted[0] = 0; wanted[1] = 0; term++; log[term] = 4 * n + w }

proctype Arbiter() {
end:
    do
    :: APPLY(0, PAIR) :: APPLY(0, ALONE) :: APPLY(0, TOOK) :: APPLY(1, PAIR) :: APPLY(1, ALONE) :: APPLY(1, TOOK)
    od
}

init {
    d_step {
        left[0] = RESTART; left[1] = DEATH; left[2] = FENCE;
        term = 1; log[1] = PAIR; seen[0] = 1; seen[1] = 1;
        role[0] = RUN; qemu[0] = 1; gate[0] = 1; role[1] = HOLD
    }
    atomic { run Host(0); run Host(1); run Arbiter() }
}

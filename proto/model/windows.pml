/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a window, for Spin: grant, acceptance, use in place, withdrawal asked for and by force, resets, deaths.
 * docs/protocol.md sections 7 and 9 say it in words; each step names the function that it is an abstraction of.
 *
 * One adapter, one window, one lcore that polls, a store that the kernel does for it (a request that is begun uses its
 * pages whatever becomes of the translation), REQUESTS requests of the guest. The guest registers the window ROUNDS
 * times. It may withdraw it while requests are in flight, and may lose patience with any answer at any moment. The
 * server's process dies up to DEATHS times, at any step, and starts again.
 *
 * What must hold, in every order:
 * - NO ACCESS: once the guest has its pages back, neither a processor of the server nor the kernel on its behalf
 *   touches them (the assertion in touch() and in Kernel);
 * - NO FALSE ALARM: a guest that keeps the rules never finds its device stopped;
 * - NO LOSS: each request ends exactly once; none is forgotten in a session that ended;
 * - NO DEADLOCK: no state in which nobody can go on but for the end; there nothing is granted or mapped any more.
 *
 * A build with one of the BREAK_ macros leaves one rule out; Spin must then find an error (tests/system/test_model.py).
 */
#ifndef REQUESTS
#define REQUESTS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef RESTARTS
#define RESTARTS 1 /* of the guest's CRQ, because a RESET was not answered */
#endif

/* enum hv_grant_state */
mtype:word = { FREE, GRANTED, ACCEPTED, RESCINDING, GONE };
/* on the CRQ; LOST is the transport event */
mtype:op = { ADD, DEL, RESET, NEEDS_RESET, LOST, INIT, INIT_COMPLETE };
/* a request, as the guest, the ring and the server see it */
mtype:guest_req = { IDLE, OUT };
mtype:ring = { EMPTY, AVAIL, USED };
mtype:server_req = { NONE, TAKEN, BUSY, DONE };
/* enum vio_sq_ctl, enum vio_astep, and how far a sharer's agent is (hv_acc.back) */
mtype:ctl = { RUN, HOLD, STOP };
mtype:step = { REST, SETTLE, DRAIN, QUIESCE };
mtype:back = { LIVE, UNMAPPED, DRAINING, TAKEN_BACK };

/* ---- the hypervisor's ---- */
mtype:word word = FREE;
bit seq;                        /* which registration the grant is of */
bool mapped;                    /* the server's processor reaches the pages */
mtype:back back = LIVE;

/* ---- the guest's memory ---- */
bool own = true;                /* the pages are the guest's alone: the server must not touch them */
mtype:ring ring[REQUESTS] = EMPTY;

/* ---- the wire: what a CRQ holds is delivered in order; the second field is the grant's, or the link's era ---- */
chan to_server = [2] of { mtype:op, byte };
chan to_guest = [8] of { mtype:op, byte };

/* ---- the server's process ---- */
bool alive = true;
mtype:server_req req[REQUESTS] = NONE;
mtype:ctl ctl = STOP;
bool in_table;                  /* the published table has the window */
bool settle_wanted, drain_settle; /* the lcore has yet to pass a quiescent state, for an operation or a drain */
bool drain_asked, drain_wanted, drain_done, running, fault;
mtype:ctl lcore_ctl = STOP;     /* as the lcore read it at this queue, and the table at the beginning of its turn */
bool lcore_table;
mtype:step step = REST;
mtype:op doing = LOST;
byte doing_arg;
bool up = true;                  /* the link (proto/link.c), and this end's era */
byte server_era;
bool halted;

/* ---- what is judged ---- */
byte deaths, out, ended;
bool rude;                      /* the guest took something away that it had told the server to use */
bool finished;

/* vio_adapter_service(): what an lcore has found, and what the agent asks, comes before the next message */
#define turn (alive && !fault && !drain_asked)
#define idle(i) (req[i] == NONE)
#if REQUESTS == 2
#define nothing_in_flight (idle(0) && idle(1))
#define kernel_has_none (req[0] != BUSY && req[1] != BUSY)
#define any_out (g[0] == OUT || g[1] == OUT)
#else
#define nothing_in_flight (idle(0))
#define kernel_has_none (req[0] != BUSY)
#define any_out (g[0] == OUT)
#endif

/*
 * A load or a store by a processor of the server. After a forced rescind it faults, and that is contained: the place is
 * kept empty until the window is returned. After the return something else may be there: nobody may come any more.
 */
inline touch()
{
	if
	:: mapped -> assert(!own)
	:: !mapped && back != LIVE -> fault = true; assert(rude)
	:: !mapped && back == LIVE -> assert(false)
	fi
}

/* hv_return_logical(), hv_grant_gone() */
inline give_back()
{
	d_step {
		if
		:: mapped || back != LIVE ->
			mapped = false;
			if
			:: back == TAKEN_BACK -> skip
			:: back != TAKEN_BACK && word == ACCEPTED -> word = GRANTED
			:: back != TAKEN_BACK && word == RESCINDING -> word = GONE
			:: else -> skip
			fi;
			back = LIVE
		:: else -> skip
		fi
	}
}

/* needs_reset() */
inline stop()
{
	fault = false;
	running = false;
	halted = true;
	ctl = STOP;
	to_guest!NEEDS_RESET, 0
}

/* vio_aop_begin() */
inline begin(o, a, c)
{
	doing = o;
	doing_arg = a;
	if
	:: !halted || c == STOP -> ctl = c
	:: else -> skip
	fi;
	settle_wanted = true;
	step = SETTLE
}

/* The adapter: one lcore's control turns. It never waits for anybody. */
active proctype Adapter()
{
	mtype:op o;
	byte a;

end:	do
	/* Messages while the link is down: ignored. */
	:: atomic { turn && step == REST && !up &&
		(to_server?[ADD, _] || to_server?[DEL, _] || to_server?[RESET, _]) -> to_server?o, a }
	/* vio_awindow_add(): take(), judge_grant(), publish(); DRIVER_OK is in it. */
	:: atomic { turn && step == REST && up && to_server?[ADD, _] -> to_server?ADD, a;
		if
		:: word == GRANTED && seq == a && !in_table ->
			word = ACCEPTED; mapped = true; back = LIVE; in_table = true;
			running = true; halted = false; ctl = RUN; to_guest!ADD, a
		:: else -> to_guest!NEEDS_RESET, a
		fi }
	:: atomic { turn && step == REST && up && to_server?[DEL, _] -> to_server?DEL, a;
		if
		:: in_table -> begin(DEL, a, HOLD)
		:: else -> to_guest!DEL, a
		fi }
	:: atomic { turn && step == REST && up && to_server?[RESET, _] -> to_server?RESET, a; running = false; begin(RESET, a, STOP) }
	/* The partner has registered its CRQ anew, or begins anew: void. vio_link_rx() */
	:: atomic { turn && step == REST && to_server?[LOST, _] -> to_server?LOST, a;
		if
		:: up -> up = false; running = false; begin(LOST, a, STOP)
		:: else -> skip
		fi }
	:: atomic { turn && step == REST && to_server?[INIT, _] -> to_server?INIT, a;
		if
		:: up -> running = false; begin(INIT, a, STOP)
		:: else -> up = true; to_guest!INIT_COMPLETE, a
		fi }
	:: atomic { turn && step == REST && to_server?[INIT_COMPLETE, _] -> to_server?INIT_COMPLETE, a;
		if
		:: a == server_era -> up = true
		:: else -> skip
		fi }
	/* vio_aop_step() */
#ifdef BREAK_SETTLE
	:: atomic { alive && step == SETTLE -> step = DRAIN }
#else
	:: atomic { alive && step == SETTLE && !settle_wanted -> step = DRAIN }
#endif
#ifdef BREAK_DRAIN
	:: atomic { alive && step == DRAIN ->
#else
	:: atomic { alive && step == DRAIN && nothing_in_flight ->
#endif
		in_table = false; settle_wanted = true; step = QUIESCE }
#ifdef BREAK_QUIESCE
	:: atomic { alive && step == QUIESCE ->
#else
	:: atomic { alive && step == QUIESCE && !settle_wanted ->
#endif
#ifdef BREAK_ORDER
		if
		:: doing == DEL -> to_guest!DEL, doing_arg; doing = LOST
		:: else -> skip
		fi }
		atomic { alive -> skip };
		atomic {
#endif
		give_back();
		step = REST;
		if
		:: doing == LOST -> skip
		:: doing == INIT -> to_guest!INIT_COMPLETE, doing_arg
		:: doing == DEL -> ctl = (halted -> STOP : RUN); to_guest!DEL, doing_arg
		:: doing == RESET -> to_guest!RESET, doing_arg
		fi }
	/* vio_afaults(): the device stops, and says so once. */
	:: atomic { alive && fault && running && len(to_guest) < 3 ->
		stop() }
	:: atomic { alive && fault && !running -> fault = false }
	/* vio_adrain_begin(), vio_adrain_step() */
	:: atomic { alive && drain_asked && !drain_wanted && len(to_guest) < 3 ->
		drain_asked = false; drain_wanted = true; drain_settle = true;
		if
		:: running -> stop()
		:: else -> skip
		fi }
	:: atomic { alive && drain_wanted && !drain_settle && nothing_in_flight ->
		drain_wanted = false; drain_done = true }
	od
}

/* A polling lcore. It goes by what it has read: the table once a turn, what a queue may do once a queue. */
active proctype Lcore()
{
	byte i;

end:	do
	:: atomic { alive && (settle_wanted || drain_settle || ctl == RUN || !nothing_in_flight) ->
		settle_wanted = false; drain_settle = false; /* rte_rcu_qsbr_quiescent() */
		lcore_table = in_table; i = 0 }
		do
		:: atomic { i < REQUESTS -> lcore_ctl = (alive -> ctl : STOP) };
			/* take a chain: the ring lies in the window too */
			if
			:: atomic { alive && lcore_ctl == RUN && lcore_table && ring[i] == AVAIL && req[i] == NONE ->
				touch();
				if
				:: !fault -> req[i] = TAKEN
				:: else -> skip
				fi }
			:: atomic { alive && lcore_ctl == RUN && !lcore_table && ring[i] == AVAIL && req[i] == NONE && rude -> fault = true }
			:: else
			fi;
			/* hand it to the store: vio_window_find() by the table of the turn's beginning */
			if
			:: atomic { alive && req[i] == TAKEN && mapped -> req[i] = BUSY }
			:: atomic { alive && req[i] == TAKEN && !mapped -> assert(rude && back != LIVE); req[i] = DONE }
			:: else
			fi;
			/* give it back */
			if
			:: atomic { alive && req[i] == DONE && lcore_ctl != STOP ->
				touch();
				if
				:: mapped -> ring[i] = USED
				:: else -> skip
				fi;
				req[i] = NONE }
			:: atomic { alive && req[i] == DONE && lcore_ctl == STOP -> req[i] = NONE }
			:: else
			fi;
			i++
		:: else -> break
		od
	od
}

/* What was begun ends, also after the process: the kernel has the pages until then. */
active proctype Kernel()
{
	byte i;

end:	do
	:: atomic { req[0] == BUSY -> assert(!own); req[0] = DONE }
#if REQUESTS == 2
	:: atomic { req[1] == BUSY -> assert(!own); req[1] = DONE }
#endif
	od
}

/* hv_grants_sweep(), take_back(): libphyp's agent in the server's process. */
active proctype Agent()
{
end:	do
	:: atomic { alive && word == RESCINDING && back == LIVE && mapped ->
		mapped = false; back = UNMAPPED }
	:: atomic { alive && back == UNMAPPED -> drain_asked = true; drain_done = false; back = DRAINING }
#ifdef BREAK_FORCE
	:: atomic { alive && back == DRAINING ->
#else
	:: atomic { alive && back == DRAINING && drain_done ->
#endif
		back = TAKEN_BACK;
		if
		:: word == RESCINDING -> word = GONE
		:: word == ACCEPTED -> word = GRANTED
		:: else -> skip
		fi }
	od
}

/* The server's process dies at any step; phypd tells the guest; the next one starts when the first has ended. */
active proctype Death()
{
end:	do
	:: atomic { alive && deaths < DEATHS && !finished ->
		deaths++;
		alive = false;
		ctl = STOP; lcore_ctl = STOP; in_table = false; lcore_table = false; settle_wanted = false; drain_settle = false; drain_wanted = false; drain_asked = false; drain_done = false;
		running = false; fault = false; step = REST; halted = false; up = false;
		/* what the kernel has not begun is gone with the process */
		if
		:: req[0] != BUSY -> req[0] = NONE
		:: else -> skip
		fi;
#if REQUESTS == 2
		if
		:: req[1] != BUSY -> req[1] = NONE
		:: else -> skip
		fi;
#endif
		/* the CRQ is closed: what was on its way to the dead is lost, and the guest is told behind what it had sent */
		do
		:: to_server?_, _
		:: empty(to_server) -> break
		od;
		to_guest!LOST, 0 }
		/* hv_grants_orphan(): only when the process has ended, and with it what the kernel did for it */
#ifdef BREAK_DEATH
		atomic {
#else
		atomic { kernel_has_none ->
#endif
			mapped = false; back = LIVE;
			if
			:: word == ACCEPTED -> word = GRANTED
			:: word == RESCINDING -> word = GONE
			:: else -> skip
			fi }
		atomic { kernel_has_none -> req[0] = NONE;
#if REQUESTS == 2
			req[1] = NONE;
#endif
			alive = true; server_era = deaths; to_guest!INIT, server_era }
	od
}

/* rescind(): normal, then by force until it says that nobody uses the pages any more */
inline rescind()
{
#ifdef BREAK_PATIENCE
	atomic { own = true; word = (word == ACCEPTED -> RESCINDING : word) };
	atomic { word != RESCINDING -> word = FREE }
#else
	atomic { word = (word == ACCEPTED -> RESCINDING : word) };
	atomic { word != RESCINDING -> word = FREE; own = true }
#endif
}

/* The front end and its transport. */
active proctype Guest()
{
	mtype:guest_req g[REQUESTS] = IDLE;
	byte rounds, restarts, i;
	mtype:op o;
	byte a, era;
	bool lost;

	goto reset;

connect: /* the link is down: until an INIT, or the answer to the last one of this end */
	do
	:: atomic { to_guest?[INIT, _] -> to_guest?INIT, a;
		if
		:: alive -> to_server!INIT_COMPLETE, a
		:: else -> skip
		fi }; break
	:: atomic { to_guest?[INIT_COMPLETE, _] -> to_guest?INIT_COMPLETE, a;
		if
		:: a != era -> goto connect
		:: else -> skip
		fi
		}; break
	:: atomic { nempty(to_guest) && !to_guest?[INIT, _] && !to_guest?[INIT_COMPLETE, _] -> to_guest?o, a } /* void */
	od;

reset:	/* RESET first, whatever was: the server touches nothing when it answers */
	if
	:: atomic { nfull(to_server) && alive -> to_server!RESET, 0 }
	:: !alive
	fi;
	do
	:: atomic { to_guest?[RESET, _] -> to_guest?RESET, _ }; break
	:: atomic { to_guest?[LOST, _] -> to_guest?LOST, _ }; goto force
	:: atomic { to_guest?[INIT, _] -> to_guest?INIT, a; to_server!INIT_COMPLETE, a }; goto reset
	:: atomic { to_guest?[ADD, _] || to_guest?[DEL, _] || to_guest?[NEEDS_RESET, _] || to_guest?[INIT_COMPLETE, _] -> to_guest?o, a } /* late */
	:: atomic { restarts < RESTARTS -> restarts++ }; goto anew
	od;
	goto take;

registered:
	if
	:: rounds == ROUNDS -> goto over
	:: else -> skip
	fi;
	/* H_GRANT_LOGICAL, WINDOW_ADD */
	atomic { assert(word == FREE && own); seq = 1 - seq; word = GRANTED; own = false; rude = false; lost = false };
	if
	:: atomic { nfull(to_server) && alive -> to_server!ADD, seq }
	:: !alive
	fi;
	do
	:: atomic { to_guest?[ADD, _] -> to_guest?ADD, a }; break
	:: atomic { to_guest?[LOST, _] -> to_guest?LOST, _ }; lost = true; goto void
	:: atomic { to_guest?[NEEDS_RESET, _] -> to_guest?NEEDS_RESET, _ }; goto void
	:: goto void /* no patience */
	od;
	assert(a == seq);

	/* what a session before left undone is sent again */
	i = 0;
	do
	:: atomic { i < REQUESTS -> ring[i] = (g[i] == OUT -> AVAIL : EMPTY); i++ }
	:: i == REQUESTS -> break
	od;
	do
	:: atomic { g[0] == IDLE && out < ROUNDS -> g[0] = OUT; out++; ring[0] = AVAIL }
	:: atomic { g[0] == OUT && ring[0] == USED -> g[0] = IDLE; ring[0] = EMPTY; ended++ }
#if REQUESTS == 2
	:: atomic { g[1] == IDLE && out < ROUNDS -> g[1] = OUT; out++; ring[1] = AVAIL }
	:: atomic { g[1] == OUT && ring[1] == USED -> g[1] = IDLE; ring[1] = EMPTY; ended++ }
#endif
	/* the last round waits for what it has asked for */
	:: rounds + 1 < ROUNDS || !any_out -> break
	:: atomic { to_guest?[LOST, _] -> to_guest?LOST, _ }; lost = true; goto void
	:: atomic { to_guest?[NEEDS_RESET, _] -> to_guest?NEEDS_RESET, _; assert(rude) }; goto void
	:: rounds + 1 < ROUNDS -> goto void /* no patience */
	od;

	/* WINDOW_DEL: with requests in flight the device may stop for it, when it takes them up afterwards */
	atomic { rude = any_out };
	if
	:: atomic { nfull(to_server) && alive -> to_server!DEL, seq }
	:: !alive
	fi;
	do
	:: atomic { g[0] == OUT && ring[0] == USED -> g[0] = IDLE; ring[0] = EMPTY; ended++ }
#if REQUESTS == 2
	:: atomic { g[1] == OUT && ring[1] == USED -> g[1] = IDLE; ring[1] = EMPTY; ended++ }
#endif
	:: atomic { to_guest?[DEL, _] -> to_guest?DEL, a }; break
	:: atomic { to_guest?[LOST, _] -> to_guest?LOST, _ }; lost = true; goto void
	:: atomic { to_guest?[NEEDS_RESET, _] -> to_guest?NEEDS_RESET, _; assert(rude) }; goto void
	:: goto void /* no patience */
	od;
	assert(a == seq);
	/* H_RESCIND_LOGICAL, normal: the server has returned it, so it must be possible now */
	atomic { assert(word == GRANTED || !alive || deaths > 0); word == GRANTED -> word = FREE; own = true };
	rounds++;
	/* requests that were not taken up are in the ring and name a window that is no more */
	if
	:: any_out -> goto broken
	:: else -> goto registered
	fi;

void:	/* the session is over; what was out stays out */
	rude = true;
#ifdef BREAK_LOSS
	g[0] = IDLE;
#endif
	rounds = (rounds < ROUNDS -> rounds + 1 : rounds);
	if
	:: lost -> goto force
	:: else -> skip
	fi;
broken:
	rude = true;
	goto reset;

anew:	/* H_FREE_CRQ, H_REG_CRQ: both directions are empty, the server gets the transport event */
	atomic {
		do
		:: to_server?_, _
		:: empty(to_server) -> break
		od;
		do
		:: to_guest?_, _
		:: empty(to_guest) -> break
		od;
		era++;
		if
		:: alive -> to_server!LOST, 0; to_server!INIT, era
		:: else -> skip
		fi }

force:	/* the session has ended without an answer */
	rude = true;
	rescind();
	goto connect;

take:	/* after RESET: normal is enough, but who knows what came before */
	rescind();
	rounds = (rounds >= ROUNDS && any_out -> ROUNDS - 1 : rounds);
	goto registered;

over:	/* each ended once; and nothing is left of any window */
	assert(out == ended && !any_out);
	atomic { word == FREE && !mapped && nothing_in_flight -> finished = true }
}

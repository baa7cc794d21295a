/* Every fault of signals: guest_NAME(). */
#define GUEST_FAULTS(F) \
	F(sig_pending) F(sig_timer) F(sig_parent) F(sig_pipe) \
	F(sig_stuck) F(sig_group) F(sig_traced) F(sig_oom) F(sig_crowd)

/* session.h - what the trainer asks of a session beyond infer.h. */
#ifndef INFER_ENGINE_SESSION_H
#define INFER_ENGINE_SESSION_H

#include "core/model/forward.h"

/* The session's forward passes, to collect what goes through them. */
struct infer_forward *infer_session_forward(struct infer_session *s);

#endif

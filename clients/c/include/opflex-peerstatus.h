/*
 * libopflex-peerstatus: the peer status listener of the OpFlex framework's C API, on the peerstatus service.
 *
 * A program that used the listener of the framework needs no other change than the name of the header:
 *
 *     ofpeerstatuslistener_p listener = NULL;
 *     if (OF_IS_FAILURE(ofpeerstatuslistener_create(data, on_peer, on_health, &listener)))
 *         fprintf(stderr, "%s\n", ofps_last_error());
 *     ...
 *     ofpeerstatuslistener_destroy(&listener);
 *
 * The library connects to the service in the background, calls back the present state first, and then each change in order. It
 * reconnects and resumes by itself.
 *
 * CALLBACKS of one listener come from one thread of the library, one after another. Callbacks of different listeners may come at
 * the same time: the library has at most four threads, which share the listeners. A callback that blocks delays the listeners on
 * its thread, and the service keeps their changes meanwhile. A callback may call every function of this header. It must not throw
 * a C++ exception, nor leave by longjmp.
 *
 * THREADS: every function may be called from every thread.
 *
 * SIGNALS are blocked in the threads of the library, so that they are delivered to the threads of the program. The library
 * installs no handler. A lost connection raises no SIGPIPE in the program.
 *
 * FORK: a child that is forked once a listener was created has no thread of the library. There, functions that return an
 * ofstatus return OF_EFAILED, no callback comes, and listeners of the parent are not touched. After exec everything works. A
 * program that makes itself a daemon must create its listeners after that.
 *
 * EXIT: callbacks may come until the listener is destroyed, also while exit() runs. The library stays loaded after dlclose().
 *
 * The ENVIRONMENT is the default of every setting, and the same as for the command `peerstatus`:
 *
 *     PEERSTATUS_SERVER            HOST[:PORT], https://HOST[:PORT] or unix:PATH. If it is not set:
 *                                  unix:/run/peerstatus/peerstatus.sock if that exists, or else 127.0.0.1:50051
 *     PEERSTATUS_TLS_CA            PEM file, or directory, with the authorities; default: the system's
 *     PEERSTATUS_TLS_CERT          PEM file with the certificate of this client
 *     PEERSTATUS_TLS_KEY           PEM file with its private key
 *     PEERSTATUS_TLS_SERVER_NAME   the name in the service's certificate; default: the host of the address
 *     PEERSTATUS_TOKEN_FILE        file with the token. Not sent in plaintext, except over loopback and the socket
 *
 * It is read by the functions that create listeners. Files are read again for each connection.
 *
 * The ABI is stable within the soname, libopflex-peerstatus.so.0; symbols have versions.
 */
#ifndef OPFLEX_PEERSTATUS_H
#define OPFLEX_PEERSTATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* ---- results ---- */

/* The result of a function. After a failure, ofps_last_error() has a text. */
typedef int ofstatus;

#define OF_ESUCCESS 0
/* A failure. Here: the process was forked, or an internal error. */
#define OF_EFAILED 1
/* There is not enough memory. Not returned by this library: like many programs, it ends the process. */
#define OF_EMEMORY 2
/* An error in the caller's logic, and an error at run time. The latter here: a thread cannot be started. */
#define OF_ELOGIC 10
#define OF_ERUNTIME 10
/* A value is out of range. Not returned by this library. */
#define OF_EOUTOFRANGE 11
/* An argument, a setting or the file that it names is invalid. */
#define OF_EINVALID_ARG 12

#define OF_IS_SUCCESS(status) ((status) == OF_ESUCCESS)
#define OF_IS_FAILURE(status) (!OF_IS_SUCCESS(status))

/* An object of this library. The value is opaque, and is never used again after the object was destroyed. */
typedef void *ofobj_p;

/* ---- the listener ---- */

typedef ofobj_p ofpeerstatuslistener_p;

/* The status of a peer: that of the service's API, minus 1. */

/* Not known. Only in pools that observe another program's connections. */
#define OF_PEERSTATUS_ERROR -1
/* The peer has left the pool, or is parked because it is not in its own list. Another status says that it is back. (The framework
 * never calls back with this status.) */
#define OF_PEERSTATUS_DISCONNECTED 0
/* There is no connection yet, or it was lost. The service dials until there is one. */
#define OF_PEERSTATUS_CONNECTING 1
/* There is a connection, and with TLS a secure one. The OpFlex handshake is not complete. */
#define OF_PEERSTATUS_CONNECTED 2
/* The OpFlex handshake is complete. */
#define OF_PEERSTATUS_READY 3
/* The connection is being closed, because the peer leaves the pool. */
#define OF_PEERSTATUS_CLOSING 4

/* The health of the pool: that of the service's API, minus 1. */

/* Not known: the service cannot be reached or has refused this client, changes were missed, the pool observes another
 * program's connections and does not know the status of one, or nothing is heard of a node of the fleet.
 * ofps_change_detail() says which. */
#define OF_POOLHEALTH_ERROR -1
/* No peer is READY. */
#define OF_POOLHEALTH_DOWN 0
/* Some peers are READY. */
#define OF_POOLHEALTH_DEGRADED 1
/* All peers are READY. */
#define OF_POOLHEALTH_HEALTHY 2

/*
 * Called when the status of a peer changes. `peerhostname` is the host as the service names it, and valid until the callback
 * returns.
 *
 * A peer is identified by pool, host and port. If the listener is of several pools, ofps_change_pool() has the name.
 */
typedef void (*ofpeerstatus_peer_p)(void *user_data, const char *peerhostname, int port, int status);

/*
 * Called when the health of the pool changes, after the peer's status that caused it.
 *
 * If the listener is of several pools, this is the worst health of them, and with no pool at all it is OF_POOLHEALTH_DOWN. While
 * the service cannot be reached it is OF_POOLHEALTH_ERROR: that is called once per outage, also if the first attempt to connect
 * fails. When the connection is back, the changes that were missed follow, and then the health. If the service no longer has
 * these changes, for example because it was restarted, its whole state is called back again: OF_PEERSTATUS_DISCONNECTED for the
 * peers that are gone, then the status of every peer, then the health. A refusal by the service, such as one of missing
 * credentials, is an outage, too, after which the library tries again every 10 s to 20 s.
 *
 * If the service is that of a fleet, and a node is gone, its peers are OF_PEERSTATUS_DISCONNECTED, and its pools no longer count
 * in the health. A node without signs of life (STALE) keeps the statuses and the health that it published last.
 */
typedef void (*ofpeerstatus_health_p)(void *user_data, int health);

/*
 * Creates a listener with the default settings, for all pools of the service.
 *
 * It does not wait for the connection. Callbacks may begin before it returns: first the status of every peer, then the health.
 * Either function may be NULL. `user_data` is handed to both, and for nothing else.
 *
 * Returns OF_EINVALID_ARG if `obj` is NULL or a variable of the environment is invalid, OF_ERUNTIME if a thread cannot be
 * started, and OF_EFAILED in a forked process. Then `*obj` is not changed.
 */
ofstatus ofpeerstatuslistener_create(void *user_data, ofpeerstatus_peer_p peer_callback,
                                     ofpeerstatus_health_p health_callback, ofpeerstatuslistener_p *obj);

/*
 * Destroys a listener, and zeroes the pointer.
 *
 * When it returns, no callback of the listener is running, and none comes any more: `user_data` may be freed. It waits for a
 * callback that is running in another thread, so the caller must not hold a lock that the callback takes.
 *
 * From within a callback of the same listener it does not wait, and takes effect when that callback returns. Two callbacks of
 * two listeners must not destroy each other's listener at the same time: each would wait for the other.
 *
 * Returns OF_EINVALID_ARG if `obj` or `*obj` is NULL, or if the listener was destroyed already, and OF_EFAILED in a forked
 * process.
 */
ofstatus ofpeerstatuslistener_destroy(ofpeerstatuslistener_p *obj);

/* ---- additions to the framework's API ---- */

/* Settings for listeners. The environment is the default of what is not set. */
typedef ofobj_p ofps_options_p;

/* Creates settings. Returns OF_EINVALID_ARG if `options` is NULL. */
ofstatus ofps_options_create(ofps_options_p *options);

/* Destroys settings, and zeroes the pointer. Listeners that were created with them are not touched. */
ofstatus ofps_options_destroy(ofps_options_p *options);

/*
 * These set the address of the service, and the files for TLS and the token; see ENVIRONMENT above. The value is copied. They
 * return OF_EINVALID_ARG if an argument is NULL or is no valid value; files are checked when a listener is created.
 */
ofstatus ofps_options_set_server(ofps_options_p options, const char *value);
ofstatus ofps_options_set_tls_ca(ofps_options_p options, const char *value);
ofstatus ofps_options_set_tls_cert(ofps_options_p options, const char *value);
ofstatus ofps_options_set_tls_key(ofps_options_p options, const char *value);
ofstatus ofps_options_set_tls_server_name(ofps_options_p options, const char *value);
ofstatus ofps_options_set_token_file(ofps_options_p options, const char *value);

/*
 * Limit the listener to pools whose name matches one of the patterns, and to peers whose `host:port` or host does. * and ? are
 * wildcards. The health is that of the whole pool in any case. An invalid pattern is refused by the service: the health is
 * OF_POOLHEALTH_ERROR then.
 */
ofstatus ofps_options_add_pool(ofps_options_p options, const char *value);
ofstatus ofps_options_add_peer(ofps_options_p options, const char *value);

/* Creates a listener with these settings, or with the default ones if `options` is NULL; see ofpeerstatuslistener_create(). */
ofstatus ofps_create_with_options(ofps_options_p options, void *user_data, ofpeerstatus_peer_p peer_callback,
                                  ofpeerstatus_health_p health_callback, ofpeerstatuslistener_p *obj);

/*
 * About the change that is being called back, for the thread of a callback: the pool's name; the reason, a name of the service's
 * enum Reason without its prefix, such as "CONNECT_FAILED"; and a text for people, such as "connection refused (os error 111)".
 * Empty if it is not known, and outside of callbacks. Valid until the callback returns.
 *
 * For a health, the reason and the text are those of the peer that caused it. For OF_POOLHEALTH_ERROR the text is the cause.
 */
const char *ofps_change_pool(void);
const char *ofps_change_reason(void);
const char *ofps_change_detail(void);

/* Why the last function of this library that failed in this thread did so. Valid until the next one fails in it. */
const char *ofps_last_error(void);

/* The version of the library. */
const char *ofps_version(void);

#ifdef __cplusplus
}
#endif

#endif /* OPFLEX_PEERSTATUS_H */

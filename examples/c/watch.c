/* Prints the status of each peer and the health of the pool until Ctrl-C: cc watch.c $(pkg-config --cflags --libs opflex-peerstatus) */
#define _POSIX_C_SOURCE 200809L
#include <opflex-peerstatus.h>
#include <signal.h>
#include <stdio.h>

static void on_peer(void *user_data, const char *peerhostname, int port, int status) {
    static const char *const names[] = {"ERROR", "DISCONNECTED", "CONNECTING", "CONNECTED", "READY", "CLOSING"};
    (void)user_data;
    printf("%s:%d is %s (%s)\n", peerhostname, port, names[status + 1], ofps_change_reason());
    fflush(stdout);
}

static void on_health(void *user_data, int health) {
    static const char *const names[] = {"ERROR", "DOWN", "DEGRADED", "HEALTHY"};
    (void)user_data;
    printf("the pool is %s %s\n", names[health + 1], health == OF_POOLHEALTH_ERROR ? ofps_change_detail() : "");
    fflush(stdout);
}

int main(void) {
    ofpeerstatuslistener_p listener = NULL;
    sigset_t ends;
    int number;

    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    if (OF_IS_FAILURE(ofpeerstatuslistener_create(NULL, on_peer, on_health, &listener))) {
        fprintf(stderr, "%s\n", ofps_last_error());
        return 1;
    }
    sigwait(&ends, &number);
    return OF_IS_SUCCESS(ofpeerstatuslistener_destroy(&listener)) ? 0 : 1;
}

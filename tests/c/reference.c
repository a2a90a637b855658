/*
 * A program written against the reference's page alone: it prints a line for each callback until its input ends. The build names
 * the header, so that the same text is compiled with the framework's name for it and with ours.
 */
#include HEADER
#include <stdio.h>

struct counts {
    int peers;
    int healths;
};

static void peer_updated(void *user_data, const char *peerhostname, int port, int status) {
    ((struct counts *)user_data)->peers++;
    printf("peer %s:%d %d\n", peerhostname, port, status);
    fflush(stdout);
}

static void health_updated(void *user_data, int health) {
    ((struct counts *)user_data)->healths++;
    printf("health %d\n", health);
    fflush(stdout);
}

int main(void) {
    struct counts counts = {0, 0};
    ofpeerstatuslistener_p listener = NULL;
    ofstatus status = ofpeerstatuslistener_create(&counts, peer_updated, health_updated, &listener);

    if (status != 0) {
        return status;
    }
    while (getchar() != EOF) {
    }
    status = ofpeerstatuslistener_destroy(&listener);
    printf("end %d %d %d\n", status, listener == NULL, counts.peers > 0 && counts.healths > 0);
    return status;
}

#!/bin/sh
# Stops a pipeline unless the version may be used: exit code 0 approved, 1 rejected, 3 inconclusive, 5 revoked, 4 the
# service can't be asked.  Needs curl.  Environment: AUDITSVC_URL, AUDITSVC_TOKEN, MODEL, VERSION, and POLICY if only
# decisions under one policy are to count.
set -eu
answer=$(printf 'header = "Authorization: Bearer %s"\n' "$AUDITSVC_TOKEN" |
    curl --silent --show-error --fail-with-body --max-time 30 --retry 3 --config - --get "$AUDITSVC_URL/v1/gate" \
        --data-urlencode "model=$MODEL" --data-urlencode "version=$VERSION" ${POLICY:+--data-urlencode "policy=$POLICY"}) ||
    { echo "${answer:-no answer}" >&2; exit 4; }
echo "$answer"
case $answer in
    '{"answer":"approved",'*) exit 0 ;;
    '{"answer":"rejected",'*) exit 1 ;;
    '{"answer":"inconclusive",'*) exit 3 ;;
    '{"answer":"revoked",'*) exit 5 ;;
    *) exit 4 ;;
esac

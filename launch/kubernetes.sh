#!/usr/bin/env bash
# Train with several pods of a Kubernetes cluster, as a JobSet (https://jobset.sigs.k8s.io):
#   IMAGE=registry/infant-seg:1 CLAIM=shared-disk PODS=2 GPUS=4 ./launch/kubernetes.sh \
#     --config=configs/default.py --workdir=/data/runs/adult
# IMAGE has infant_seg_jax installed; CLAIM is a volume that all pods share, mounted at /data.
# NAME is the JobSet's. With DRY_RUN=1 the manifest is printed and nothing is started.
set -euo pipefail
: "${IMAGE:?names a container image with infant_seg_jax}" "${CLAIM:?names a shared volume claim}"
name=${NAME:-infant-seg} pods=${PODS:-2} gpus=${GPUS:-1}

arguments=""
for argument in "$@"; do # as JSON strings, which YAML reads alike
  argument=${argument//\\/\\\\}
  arguments+=", \"${argument//\"/\\\"}\""
done

manifest=$(
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: "$name"
spec:
  failurePolicy:
    maxRestarts: 3
  replicatedJobs:
    - name: train
      replicas: 1
      template:
        spec:
          parallelism: $pods
          completions: $pods
          completionMode: Indexed
          backoffLimit: 0
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: 180
              containers:
                - name: train
                  image: "$IMAGE"
                  env:
                    - name: PROCESS
                      valueFrom:
                        fieldRef:
                          fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
                  command: ["infant-seg", "train", "--coordinator=$name-train-0-0.$name:12321",
                            "--processes=$pods", "--process=\$(PROCESS)"$arguments]
                  resources:
                    limits:
                      nvidia.com/gpu: $gpus
                  volumeMounts:
                    - name: data
                      mountPath: /data
              volumes:
                - name: data
                  persistentVolumeClaim:
                    claimName: "$CLAIM"
YAML
)
if [ -n "${DRY_RUN:-}" ]; then
  echo "$manifest"
else
  kubectl apply -f - <<<"$manifest"
fi

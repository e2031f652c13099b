// validate.js - the manifests of docker/k8s against Kubernetes' own schemas.
//
// kubernetes-models has a class per kind, made from the API's OpenAPI document;
// its validate() finds wrong types and missing fields, but not unknown ones.
const fs = require('node:fs')
const path = require('node:path')
const test = require('node:test')
const assert = require('node:assert')
const yaml = require('js-yaml')

const folder = path.join(process.env.TOP, 'docker/k8s')
const classes = {
  'apps/v1 Deployment': require('kubernetes-models/apps/v1').Deployment,
  'v1 Service': require('kubernetes-models/v1').Service,
  'policy/v1 PodDisruptionBudget':
    require('kubernetes-models/policy/v1').PodDisruptionBudget,
  'autoscaling/v2 HorizontalPodAutoscaler':
    require('kubernetes-models/autoscaling/v2').HorizontalPodAutoscaler,
  'keda.sh/v1alpha1 ScaledObject':
    require('@kubernetes-models/keda/keda.sh/v1alpha1').ScaledObject
}

function validate (object) {
  const kind = `${object.apiVersion} ${object.kind}`
  assert.ok(classes[kind], `no schema for ${kind}`)
  new classes[kind](object).validate()
}

for (const file of fs.readdirSync(folder)) {
  const text = fs.readFileSync(path.join(folder, file), 'utf8')
  for (const object of yaml.loadAll(text)) {
    test(`${file} ${object.kind}`, () => {
      validate(object)
      const wrong = structuredClone(object)
      wrong.spec = 7
      assert.throws(() => validate(wrong))
    })
  }
}

test('a wrong type deep inside fails', () => {
  const text = fs.readFileSync(path.join(folder, 'inferd.yaml'), 'utf8')
  const object = yaml.loadAll(text)[0]
  object.spec.template.spec.containers[0].livenessProbe.periodSeconds = 'ten'
  assert.throws(() => validate(object))
})
